"""The report of the cases does not depend on the order of the tests nor on the process that ran them."""

from itertools import permutations
from typing import Any, Literal

import pytest

from tests.contract.report import CASE, FAILED, NOT_RUN, PASSED, CaseReport

PASSES, FAILS, SKIPS_SOME, OTHERS = 1, 2, 3, 4


def ended(
    outcome: Literal["passed", "failed", "skipped"], line: int, *numbers: int
) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=f"test_x.py::test_{line}",
        location=("test_x.py", line, f"test_{line}"),
        keywords={},
        outcome=outcome,
        longrepr=("test_x.py", line, f"Skipped: reason {line}") if outcome == "skipped" else None,
        when="call",
        user_properties=[(CASE, number) for number in numbers],
    )


REPORTS = [
    ended("passed", 1, PASSES, FAILS, SKIPS_SOME),
    ended("failed", 2, FAILS),
    ended("skipped", 3, SKIPS_SOME),
    ended("skipped", 10, SKIPS_SOME, OTHERS),
]


def cases(reports: list[pytest.TestReport]) -> list[Any]:
    recorded = CaseReport("process", None)
    for report in reports:
        recorded.pytest_runtest_logreport(report)
    document: Any = recorded.document()
    return [(each["outcome"], each["reason"]) for each in document["cases"][:4]]


@pytest.mark.parametrize("reports", list(permutations(REPORTS)))
def test_the_order_does_not_matter(reports: tuple[pytest.TestReport, ...]) -> None:
    assert cases(list(reports)) == [
        (PASSED, ""),
        (FAILED, "test_x.py::test_2"),
        (PASSED, "reason 3; reason 10"),
        (NOT_RUN, "reason 10"),
    ]


def test_what_a_worker_process_sends(pytestconfig: pytest.Config) -> None:
    """pytest's own form of reports, in which pytest-xdist sends them."""
    hook = pytestconfig.hook
    sent = [hook.pytest_report_to_serializable(config=pytestconfig, report=one) for one in REPORTS]
    read = [hook.pytest_report_from_serializable(config=pytestconfig, data=one) for one in sent]
    assert cases(read) == cases(REPORTS)
