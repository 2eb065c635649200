"""Records the result of each numbered case: passed, failed, or not run and why."""

import json
from collections import defaultdict
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from tests.contract.cases import CASES, Case, Level

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
DIFFERS = "differs on purpose: "
CASE = "case"  # the name of a report's user property
Place = tuple[str, int]


@dataclass(slots=True)
class Evidence:
    """The results of all tests of one case. `skipped`: place in the source and reason."""

    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[tuple[Place, str]] = field(default_factory=list)

    def outcome(self, case: Case) -> tuple[str, str]:
        """The verdict and its reason. One failed test fails the case."""
        if self.failed:
            return FAILED, ", ".join(sorted(self.failed))
        if self.passed:
            return PASSED, self._reasons()
        return NOT_RUN, case.elsewhere or self._reasons() or "no test of it was selected"

    def _reasons(self) -> str:
        """In the order of the source: parallel tests end in any order."""
        return "; ".join(dict.fromkeys(reason for _, reason in sorted(self.skipped)))


class CaseReport:
    """A pytest plugin: prints one summary line, and writes a JSON file if one was requested.

    With pytest-xdist the tests run in worker processes, which send their reports to the process with this
    plugin's results. A report carries the numbers of its cases there.
    """

    def __init__(self, subject: str, file: Path | None) -> None:
        self._subject = subject
        self._file = file
        self._evidence: dict[int, Evidence] = defaultdict(Evidence)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        numbers = (number for mark in item.iter_markers("case") for number in mark.args)
        report.user_properties += [(CASE, number) for number in numbers]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, number in report.user_properties:
            if name == CASE:
                self._note(self._evidence[int(str(number))], report)

    def _note(self, evidence: Evidence, report: pytest.TestReport) -> None:
        if report.failed:
            evidence.failed.append(report.nodeid)
        elif report.skipped:
            file, line, _ = report.location
            evidence.skipped.append(((file, line or 0), _reason(report)))
        elif report.when == "call":
            evidence.passed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        if self._file is not None:
            self._file.write_text(json.dumps(self.document(), indent=2) + "\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._evidence:
            terminalreporter.write_line(self.line())

    def document(self) -> dict[str, object]:
        rows = []
        for case in CASES.values():
            outcome, reason = self._evidence[case.number].outcome(case)
            rows.append(asdict(case) | {"outcome": outcome, "reason": reason})
        return {"subject": self._subject, "summary": self.line(), "cases": rows}

    def line(self) -> str:
        return f"contract, {self._subject}: {self._count(Level.MUST)}; {self._count(Level.SHOULD)}"

    def _count(self, level: Level) -> str:
        cases = [case for case in CASES.values() if case.level is level]
        outcomes = [self._evidence[case.number].outcome(case)[0] for case in cases]
        passed, failed, other = (outcomes.count(each) for each in (PASSED, FAILED, NOT_RUN))
        return f"{passed} of {len(cases)} {level} cases pass, {failed} fail, {other} not run here"


def _reason(report: pytest.TestReport) -> str:
    """The text passed to skip: pytest stores it as the last of (file, line, text)."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
