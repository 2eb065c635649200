"""Options of the whole test run; they live here because pytest reads options before it finds tests."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract", "the conformance suite in tests/contract")
    group.addoption("--target", default="process", help="what to test: process (default) or app")
    group.addoption(
        "--contract-report", metavar="FILE", help="write the outcome of each case as JSON"
    )
