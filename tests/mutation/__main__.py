"""Change the policy modules in thousands of small ways, and require that their tests notice: `make mutants`.

mutmut makes the changes and runs the tests that reach each. A change that no test notices is a survivor; it
has to be in `equivalent.toml`, with the reason why it changes nothing that can be seen, or it counts.
"""

import argparse
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

WANTED = 0.9  # share of the changes that the tests have to notice
NOTICED = frozenset({"killed", "timeout", "segfault", "suspicious", "caught by type check"})
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
MUTMUT = (sys.executable, "-m", "mutmut")


class Mutant(NamedTuple):
    """One change. `name`: as mutmut calls it; `status`: what became of its test run."""

    name: str
    status: str


def main() -> int:
    arguments = _arguments()
    subprocess.run([*MUTMUT, "run", *arguments.names], check=False)
    mutants = [mutant for mutant in _results() if mutant.status != "not checked"]
    survivors = [mutant for mutant in mutants if mutant.status not in NOTICED]
    known, unknown = _known(survivors)
    for mutant, change in unknown:
        print(f"\n{mutant.name}: {mutant.status}\n{change}")
    print(f"\n{dict(Counter(mutant.status for mutant in mutants))}")
    counted = len(mutants) - len(known)
    share = (len(mutants) - len(survivors)) / max(1, counted)
    print(f"{share:.3f} of {counted} changes noticed, {len(known)} change nothing")
    return 0 if mutants and share >= WANTED else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants or modules, with wildcards; default: all")
    return parser.parse_args()


def _results() -> Iterator[Mutant]:
    for line in _mutmut("results", "--all", "true").splitlines():
        name, _, status = line.strip().partition(": ")
        if status:
            yield Mutant(name, status)


def _known(survivors: list[Mutant]) -> tuple[list[Mutant], list[tuple[Mutant, str]]]:
    """Those that are declared equivalent, and the others with their changes."""
    declared = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    changes = {(each["where"], each["was"], each["becomes"]) for each in declared}
    known, unknown = [], []
    for mutant in survivors:
        diff = _mutmut("show", mutant.name)
        where = mutant.name.rpartition("__mutmut_")[0]
        if (where, _lines(diff, "-"), _lines(diff, "+")) in changes:
            known.append(mutant)
        else:
            unknown.append((mutant, _change(diff)))
    return known, unknown


def _lines(diff: str, sign: str) -> str:
    """What the change removes (`-`) or adds (`+`)."""
    lines = diff.splitlines()
    marked = [line[1:].strip() for line in lines if line[:1] == sign and line[:3] != sign * 3]
    return " ".join(marked)


def _change(diff: str) -> str:
    return "\n".join(line for line in diff.splitlines() if line[:1] in ("-", "+"))


def _mutmut(*arguments: str) -> str:
    return subprocess.run([*MUTMUT, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
