"""python -m benchmarks.gpu [--device cpu --small] [--seconds 480] [--only A,B] [--skip A,B] [--output DIR]

Runs the sections of `benchmarks/gpu/sections` on one device. Writes DIR/gpu_day.json, which is complete
after every section. Nothing is downloaded: the models have full size and random weights.
`--device cpu --small` is a dry run for a machine without a GPU.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu import child, page, schedule
from benchmarks.gpu.day import Day
from benchmarks.gpu.day_section import Section
from benchmarks.gpu.sections import ALL

OUTPUT = child.ROOT / "build/gpu-day"
BUILD_S = 180.0
BRIEF = 1000  # characters of a section, on the terminal


def main() -> int:
    """Returns the exit status: 0 if the device exists and no section failed or was interrupted."""
    arguments = _arguments()
    began, ends = time.monotonic(), time.monotonic() + arguments.seconds
    sections, day = _chosen(arguments), _day(arguments)
    document: dict[str, Any] = {
        "device": day.device,
        "small": day.small,
        "seconds_limit": arguments.seconds,
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    file = day.output / "gpu_day.json"

    def report(name: str, records: dict[str, Any]) -> None:
        schedule.write(file, document | {"sections": records})
        print(f"[{time.monotonic() - began:6.1f}] {name}: {_brief(records[name])}", flush=True)

    document["models"] = _models(day)
    records = schedule.run(day, sections, ends, report)
    document |= {"seconds": round(time.monotonic() - began, 1), "sections": records}
    schedule.write(file, document)
    print("\n".join(page.outcomes(document)))
    print(f"{document['seconds']} s; {file}")
    return int(any(failed(name, record) for name, record in records.items()))


def failed(name: str, record: dict[str, Any]) -> bool:
    state = record["state"]
    return state in (schedule.FAILED, schedule.CUT) or (
        name == schedule.ENVIRONMENT and state != schedule.RAN
    )


def _brief(record: dict[str, Any]) -> str:
    found = json.dumps(record["found"], default=str)
    return f"{record['state']} {record.get('error', '')} {found}"[:BRIEF]


def _models(day: Day) -> dict[str, Any]:
    """Build the models. If that fails, only the sections without models run."""
    size = day.pick("full", "small")
    try:
        found: dict[str, Any] = child.run("models", day.models, size, timeout_s=BUILD_S)
    except Exception as error:  # noqa: BLE001  of any kind: it is part of the record
        return {"error": str(error)}
    return found


def _day(arguments: argparse.Namespace) -> Day:
    output, small = arguments.output.resolve(), arguments.small
    models = arguments.models or output / ("models-small" if small else "models")
    output.mkdir(parents=True, exist_ok=True)
    models.mkdir(parents=True, exist_ok=True)
    return Day(arguments.device, small, output, models.resolve())


def _chosen(arguments: argparse.Namespace) -> list[Section]:
    """Raises SystemExit for an unknown section name."""
    known = {section.name for section in ALL}
    if unknown := {*arguments.only, *arguments.skip} - known:
        raise SystemExit(f"no section {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    wanted = set(arguments.only) or known
    return [each for each in ALL if each.name in wanted and each.name not in arguments.skip]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--device",
        default="cuda",
        choices=("cuda", "cpu"),
        help="device to measure (default: %(default)s)",
    )
    parser.add_argument("--small", action="store_true", help="small models and short windows")
    parser.add_argument(
        "--seconds", type=float, default=480.0, help="time limit for all sections, in seconds"
    )
    parser.add_argument(
        "--only", type=_names, default=[], help="run only these sections, separated by commas"
    )
    parser.add_argument("--skip", type=_names, default=[], help="skip these sections")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="directory for the results")
    parser.add_argument(
        "--models", type=Path, help="directory for the models (default: in --output)"
    )
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


if __name__ == "__main__":
    sys.exit(main())
