"""The table of cases agrees with the tests' `case` marks."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.contract.cases import CASES, TABLE


def claimed() -> set[int]:
    """All numbers in `case` marks in this directory."""
    files = Path(__file__).parent.glob("test_*.py")
    return {number for file in files for number in _numbers(ast.parse(file.read_text()))}


def _numbers(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.case":
            yield from (ast.literal_eval(argument) for argument in node.args)


def test_the_list_is_complete() -> None:
    """Numbers 1 to 100, each once."""
    assert [case.number for case in TABLE] == list(range(1, 101))


def test_every_case_is_tested_or_explained() -> None:
    """A case has either a test or a reason."""
    explained = {case.number for case in TABLE if case.elsewhere}
    assert claimed() == CASES.keys() - explained
