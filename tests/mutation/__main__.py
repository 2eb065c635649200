"""Change the policy modules in thousands of small ways, and require that their tests notice: `make mutants`.

mutmut makes the changes and runs the tests that reach each. A change that no test notices is a survivor; it
has to be in `equivalent.toml`, with the reason why it changes nothing that can be seen, or it counts. A run
that was ended, by its time limit or by hand, is continued by the next one, unless a module or a test changed.
"""

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

WANTED = 0.9  # share of the changes that the tests have to notice
NOTICED = frozenset({"killed", "timeout", "segfault", "suspicious", "caught by type check"})
OPEN = "not checked"
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
MUTMUT = (sys.executable, "-m", "mutmut")
FOLDER = Path("mutants")  # mutmut's: changed modules, tests and results
STATE, LOG = FOLDER / "state.txt", FOLDER / "mutmut.log"
SOURCES = "model_handler", "tests/model_handler", "tests/mutation", "pyproject.toml"
PROGRESS_S = 60.0


class Mutant(NamedTuple):
    """One change. `name`: as mutmut calls it; `status`: what became of its test run."""

    name: str
    status: str

    @property
    def module(self) -> str:
        return self.name.partition(".x")[0].removeprefix("model_handler.")

    @property
    def where(self) -> str:
        return self.name.rpartition("__mutmut_")[0]


def main() -> int:
    arguments = _arguments()
    _forget_outdated_results()
    _run(arguments.names, arguments.minutes * 60)
    mutants = [one for one in _results() if _meant(one, arguments.names)]
    survivors = [one for one in mutants if one.status not in NOTICED | {OPEN}]
    equal, counted = _known(survivors)
    _print_table(mutants, equal)
    for mutant, change in counted:
        print(f"\n{mutant.name}: {mutant.status}\n{change}")
    return _verdict(mutants, len(equal), len(counted))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="modules or mutants, checked again: 'model_handler.memory.room*'"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="time limit (default: 60)")
    return parser.parse_args()


def _meant(mutant: Mutant, names: list[str]) -> bool:
    return not names or any(fnmatchcase(mutant.name, name) for name in names)


# ---- the run ----


def _forget_outdated_results() -> None:
    """mutmut's results stand as long as the module stays the same; they depend on the tests, too."""
    digest = hashlib.sha256()
    for source in SOURCES:
        files = sorted(Path(source).rglob("*.py")) or [Path(source)]
        for file in files:
            digest.update(str(file).encode() + file.read_bytes())
    if not STATE.is_file() or STATE.read_text() != digest.hexdigest():
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir()
        STATE.write_text(digest.hexdigest())


def _run(names: list[str], limit_s: float) -> None:
    """Let mutmut work until it is done or the time is over; say how far it is."""
    end = time.monotonic() + limit_s
    with LOG.open("ab") as log:
        process = subprocess.Popen(
            [*MUTMUT, "run", *names], stdout=log, stderr=log, start_new_session=True
        )
        try:
            while process.poll() is None and time.monotonic() < end:
                _wait(process, min(PROGRESS_S, end - time.monotonic()))
                _print_progress(names)
        finally:
            _end(process)


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, seconds))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With the processes that run the tests of a change."""
    if process.poll() is None:
        print("the time is over; the next run goes on from here")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _print_progress(names: list[str]) -> None:
    counts = Counter(one.status for one in _results() if _meant(one, names))
    left = counts.pop(OPEN, 0)
    print(
        f"{time.strftime('%H:%M')} {left} of {left + counts.total()} left, {dict(counts)}",
        flush=True,
    )


# ---- the results ----


def _results() -> Iterator[Mutant]:
    for line in _mutmut("results", "--all", "true").splitlines():
        name, _, status = line.strip().partition(": ")
        if status:
            yield Mutant(name, status)


def _known(survivors: list[Mutant]) -> tuple[list[Mutant], list[tuple[Mutant, str]]]:
    """Those that are declared equivalent, and the others with their changes."""
    declared = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    equal, counted = [], []
    with ThreadPoolExecutor(2) as pool:
        diffs = pool.map(lambda one: _mutmut("show", one.name), survivors)
        for mutant, diff in zip(survivors, diffs, strict=True):
            if any(_fits(each, mutant, diff) for each in declared):
                equal.append(mutant)
            else:
                counted.append((mutant, _change(diff)))
    return equal, counted


def _fits(declared: dict[str, str], mutant: Mutant, diff: str) -> bool:
    if not fnmatchcase(mutant.where, declared["where"]):
        return False
    return (_lines(diff, "-"), _lines(diff, "+")) == (declared["was"], declared["becomes"])


def _lines(diff: str, sign: str) -> str:
    """What the change removes (`-`) or adds (`+`)."""
    lines = diff.splitlines()
    marked = [line[1:].strip() for line in lines if line[:1] == sign and line[:3] != sign * 3]
    return " ".join(marked)


def _change(diff: str) -> str:
    return "\n".join(line for line in diff.splitlines() if line[:1] in ("-", "+"))


def _print_table(mutants: Iterable[Mutant], equal: list[Mutant]) -> None:
    """A row for each module. The share is of the changes that were checked and change something."""
    modules: dict[str, Counter[str]] = {}
    for one in mutants:
        status = "equal" if one in equal else "noticed" if one.status in NOTICED else one.status
        modules.setdefault(one.module, Counter())[status] += 1
    for module, counts in modules.items():
        share = counts["noticed"] / max(1, counts.total() - counts["equal"] - counts[OPEN])
        print(f"{module:24} {counts.total():5} changes, {share:.3f} noticed: {dict(counts)}")


def _verdict(mutants: list[Mutant], equal: int, unnoticed: int) -> int:
    left = sum(one.status == OPEN for one in mutants)
    checked = len(mutants) - left - equal
    share = (checked - unnoticed) / max(1, checked)
    print(f"\n{share:.3f} of {checked} changes noticed; {equal} change nothing, {left} not checked")
    return 0 if checked and not left and share >= WANTED else 1


def _mutmut(*arguments: str) -> str:
    return subprocess.run([*MUTMUT, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
