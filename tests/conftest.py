"""Options of the whole test run. They are here because pytest reads options before it collects tests."""

from pathlib import Path

import pytest

from tests.contract.report import CaseReport


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contract", "the conformance suite in tests/contract")
    group.addoption(
        "--target", default="process", help="what to test: process (default), app, mms or image"
    )
    group.addoption(
        "--artifacts", default="huggingface", help="what it loads: huggingface (default) or code"
    )
    group.addoption("--workers", help="MME_WORKERS of the servers (default: from the cores)")
    group.addoption(
        "--contract-report", metavar="FILE", help="write the outcome of each case as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Record the outcomes of the conformance cases. pytest-xdist's main process reads no other conftest."""
    target = str(config.getoption("--target"))
    subject = f"{target} with code" if config.getoption("--artifacts") == "code" else target
    file = None if hasattr(config, "workerinput") else config.getoption("--contract-report")
    config.pluginmanager.register(
        CaseReport(subject, Path(file) if file else None), "contract-report"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` on machines without a CUDA device."""
    if not any(item.get_closest_marker("gpu") for item in items) or _cuda():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()
