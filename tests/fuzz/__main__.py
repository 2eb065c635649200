"""python -m tests.fuzz [--seconds 600] [--seed NUMBER] | --replay DIRECTORY

Mutates valid artifacts, requests and archives, sends them to a real server, and checks that nobody else
notices. Inputs that violate a property are saved in build/fuzz; --replay repeats one of them. Exits with 1
if any was found.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from tests.fuzz.fuzzer import Fuzzer

FAILURES = Path("build/fuzz")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000) * 1000)
    parser.add_argument("--replay", type=Path)
    given = parser.parse_args()
    disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        fuzzer = Fuzzer(Path(scratch), FAILURES, time.monotonic() + given.seconds)
        try:
            return replay(fuzzer, given.replay) if given.replay else fuzz(fuzzer, given.seed)
        finally:
            fuzzer.servers.stop()


def fuzz(fuzzer: Fuzzer, seed: int) -> int:
    print(f"fuzzing, --seed {seed}", flush=True)
    fuzzer.run(seed)
    for outcome, count in sorted(fuzzer.statuses.items()):
        print(f"{count:8} {outcome}")
    print(f"{fuzzer.count} inputs, {len(fuzzer.found)} violations")
    for place in fuzzer.found:
        print(f"repeat with: python -m tests.fuzz --replay {place}")
    return int(bool(fuzzer.found))


def replay(fuzzer: Fuzzer, saved: Path) -> int:
    place = fuzzer.servers.get().root / "replayed"
    shutil.copytree(saved, place)
    try:
        fuzzer.check(place)
    except AssertionError as violation:
        print(violation)
        return 1
    print("no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
