"""python -m tests.contract.document REPORT [--check]

Writes docs/contract.md, and the count in README.md, from the report of a run of the suite
(`pytest tests --contract-report=REPORT`). With --check nothing is written: it fails where the documents say
something else than the report.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "contract.md"
README = REPOSITORY / "README.md"
COUNT = re.compile(r"\*\*The contract\.\*\* .*?(?=\n  \[docs/contract\.md\])", re.DOTALL)
HEAD = """# Conformance

SageMaker's contract for multi-model containers as one hundred numbered cases, grouped as the platform
meets them, each with what came out. This page is written from a run of the suite in
[tests/contract](../tests/contract) against `python -m container serve` as a process of its own, over
real sockets: `make contract`.

"""


def main() -> int:
    arguments = _arguments()
    report = json.loads(arguments.report.read_text(encoding="utf-8"))
    wanted = {DOCUMENT: page(report), README: readme(report)}
    stale = [file for file, text in wanted.items() if _current(file) != text]
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


def _current(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def page(report: dict[str, Any]) -> str:
    return HEAD + "\n".join(_lines(report)) + "\n"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    yield f"**{_sentence(report)}**"
    group = None
    for case in report["cases"]:
        if case["group"] != group:
            group = case["group"]
            yield from (
                "",
                f"## {group[0].upper()}{group[1:]}",
                "",
                "| # | level | case | outcome |",
            )
            yield "|---|---|---|---|"
        yield f"| {case['number']} | {case['level']} | {case['title']} | {_outcome(case)} |"


def _outcome(case: dict[str, Any]) -> str:
    if case["outcome"] == "not run":
        return f"not run: {case['reason']}"
    return str(case["outcome"])


def _sentence(report: dict[str, Any]) -> str:
    must = [case for case in report["cases"] if case["level"] == "MUST"]
    should = [case for case in report["cases"] if case["level"] == "SHOULD"]
    return (
        f"{_passed(must)} of {len(must)} MUST and {_passed(should)} of {len(should)} SHOULD cases pass"
        f" against the real process; {_failed(report['cases'])} fail, the others need a GPU, a built"
        " image or the platform."
    )


def _passed(cases: list[dict[str, Any]]) -> int:
    return sum(case["outcome"] == "passed" for case in cases)


def _failed(cases: list[dict[str, Any]]) -> int:
    return sum(case["outcome"] == "failed" for case in cases)


def readme(report: dict[str, Any]) -> str:
    """The README with its count replaced."""
    text = README.read_text(encoding="utf-8")
    count = f"**The contract.** {_sentence(report)}".replace("; ", ";\n  ", 1)
    new, replaced = COUNT.subn(lambda _: count, text)
    assert replaced == 1, "README.md has lost its line about the contract"
    return new


if __name__ == "__main__":
    sys.exit(main())
