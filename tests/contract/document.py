"""python -m tests.contract.document REPORT [--check]

Writes the results of one run of the suite (`pytest tests/contract --contract-report=REPORT`) into
docs/contract.md and README.md. --check writes nothing and fails if the documents differ from the report.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.contract.report import DIFFERS, FAILED, NOT_RUN, PASSED

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "contract.md"
README = REPOSITORY / "README.md"
NOT_COMPARED = "not compared: "
Report = dict[str, Any]


def main() -> int:
    arguments = _arguments()
    report = json.loads(arguments.report.read_text(encoding="utf-8"))
    wanted = {DOCUMENT: page(report), README: readme(report)}
    stale = [file for file, text in wanted.items() if file.read_text(encoding="utf-8") != text]
    for file in stale:
        if arguments.check:
            print(f"{file.name} says something else than the suite: run `make docs`")
        else:
            file.write_text(wanted[file], encoding="utf-8")
    return 1 if stale and arguments.check else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.contract.document")
    parser.add_argument("report", type=Path)
    parser.add_argument("--check", action="store_true")
    return parser.parse_args()


# ---- docs/contract.md: a part for each subject, between comments that name it ----


def page(report: Report) -> str:
    subject = report["subject"]
    begin, end = f"<!-- {subject} -->\n", f"<!-- end of {subject} -->"
    before, found, rest = DOCUMENT.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    assert found, f"docs/contract.md has lost its part about {subject}"
    assert ended, f"docs/contract.md has lost the end of its part about {subject}"
    lines = PARTS.get(subject, _exceptions)(report)
    return before + begin + "\n".join(lines) + "\n" + end + after


def _table(report: Report) -> Iterator[str]:
    """Every case."""
    yield f"**{_sentence(report)}**"
    group = None
    for case in report["cases"]:
        if case["group"] != group:
            group = case["group"]
            yield from ("", f"### {group[0].upper()}{group[1:]}", "")
            yield "| # | level | case | outcome |"
            yield "|---|---|---|---|"
        yield f"| {case['number']} | {case['level']} | {case['title']} | {_outcome(case)} |"


def _exceptions(report: Report) -> Iterator[str]:
    """The cases that failed or were not run."""
    yield f"**{_counts(report)} cases pass.** The others:"
    yield ""
    for case in report["cases"]:
        if case["outcome"] != PASSED:
            yield f"- {case['number']}, {case['title']}: {_outcome(case)}"


def _differences(report: Report) -> Iterator[str]:
    """The tests' notes on deliberate differences of this target, and on parts that were not compared."""
    yield "| # | here | there |"
    yield "|---|---|---|"
    left: dict[str, list[str]] = {}
    for case in report["cases"]:
        reasons = [one for one in case["reason"].split("; ") if one.startswith(DIFFERS)]
        there = [reason.removeprefix(DIFFERS) for reason in reasons]
        for reason in (one for one in there if one.startswith(NOT_COMPARED)):
            left.setdefault(reason.removeprefix(NOT_COMPARED), []).append(str(case["number"]))
        if words := "; ".join(one for one in there if not one.startswith(NOT_COMPARED)):
            yield f"| {case['number']} | {case['title']} | {words} |"
    yield from ("", "Not compared, in whole or in part:", "")
    yield from (f"- {', '.join(numbers)}: {reason}" for reason, numbers in left.items())
    passed = [str(case["number"]) for case in report["cases"] if case["outcome"] == PASSED]
    yield f"\nThe other tests of {len(passed)} cases pass there too: {', '.join(passed)}."


PARTS: dict[str, Callable[[Report], Iterator[str]]] = {"process": _table, "mms": _differences}


def _outcome(case: dict[str, Any]) -> str:
    return f"not run: {case['reason']}" if case["outcome"] == NOT_RUN else str(case["outcome"])


# ---- the counts ----


def _sentence(report: Report) -> str:
    failed = sum(case["outcome"] == FAILED for case in report["cases"])
    return (
        f"{_counts(report)} cases pass against the real process; {failed} fail, the others need a GPU or"
        " the built image."
    )


def _counts(report: Report) -> str:
    return f"{_count(report, 'MUST')} and {_count(report, 'SHOULD')}"


def _count(report: Report, level: str) -> str:
    outcomes = [case["outcome"] for case in report["cases"] if case["level"] == level]
    return f"{outcomes.count(PASSED)} of {len(outcomes)} {level}"


COUNTS: dict[str, tuple[re.Pattern[str], Callable[[Report], str]]] = {
    "process": (
        re.compile(r"(?<=\*\*The contract\.\*\* ).*?image\.", re.DOTALL),
        lambda report: _sentence(report).replace("; ", ";\n  ", 1),
    ),
    "image": (
        re.compile(r"(?<=The built image: ).*?SHOULD"),
        lambda report: _counts(report),
    ),
    "process with code": (
        re.compile(r"(?<=code/inference\.py`: ).*?SHOULD"),
        lambda report: _counts(report),
    ),
}


def readme(report: Report) -> str:
    """The README with its count replaced, if it has one for this subject."""
    text = README.read_text(encoding="utf-8")
    if report["subject"] not in COUNTS:
        return text
    pattern, count = COUNTS[report["subject"]]
    new, replaced = pattern.subn(lambda _: count(report), text)
    assert replaced == 1, "README.md has lost its line about the contract"
    return new


if __name__ == "__main__":
    sys.exit(main())
