"""The state of the device according to NVIDIA's driver, read with nvidia-smi, for all processes together."""

import contextlib
import csv
import io
import re
import subprocess

TIMEOUT_S = 20.0
FACTS = (
    "name", "memory.total", "memory.used", "driver_version", "compute_cap",
    "pcie.link.gen.max", "pcie.link.width.max", "clocks.max.sm", "power.limit",
)  # fmt: skip
_MISSING = re.compile(r"\[.*\]|N/A")
_AMOUNT = re.compile(r"([0-9.]+) MiB")


def query(*fields: str) -> dict[str, str] | None:
    """Values of the first device; None if nvidia-smi does not exist or fails."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv", "--id=0"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=TIMEOUT_S
        )
        return parse(done.stdout)
    return None


def parse(text: str) -> dict[str, str] | None:
    """The values of the first device in nvidia-smi's CSV, without unknown values and without units in names.

    Returns None, and does not raise, if the output is not a table.
    """
    rows = list(csv.reader(io.StringIO(text.strip()), skipinitialspace=True))
    if len(rows) < 2 or len(rows[0]) != len(rows[1]):
        return None
    names = [name.partition(" [")[0].strip() for name in rows[0]]
    values = [value.strip() for value in rows[1]]
    pairs = zip(names, values, strict=True)
    return {name: value for name, value in pairs if not _MISSING.fullmatch(value)}


def mib(amount: str | None) -> float | None:
    """`81559 MiB` as a number."""
    match = _AMOUNT.fullmatch(amount or "")
    return float(match[1]) if match else None


def used_mib() -> float | None:
    return mib((query("memory.used") or {}).get("memory.used"))


def grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
