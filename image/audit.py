"""python image/audit.py [FILE …]: what osv.dev knows against the versions that are pinned, by pip-audit.

Fails on any finding but the exceptions of pyproject.toml, each until its day. Where osv.dev cannot be reached
nothing is audited: one line says so, and that is no failure.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PINNED = (REPOSITORY / "constraints.txt", REPOSITORY / "image/requirements.lock")
OSV = "https://api.osv.dev/v1/query"
# CVE-2019-11324. Who does not know of it, such as a mirror that answers everything, knows nothing.
INFAMOUS = {"package": {"name": "urllib3", "ecosystem": "PyPI"}, "version": "1.24.1"}
TIMEOUT_S = 10


def main() -> None:
    options = arguments()
    if not reached(options.service):
        print(f"not audited: {options.service} cannot be reached", file=sys.stderr)
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write("\n".join(pins(options.files)))
        requirements.flush()
        sys.exit(audit(Path(requirements.name), options.service, passing(options.exceptions)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, default=PINNED, help="of name==version")
    parser.add_argument("--service", default=OSV, help="default: %(default)s")
    parser.add_argument(
        "--exceptions", type=Path, default=REPOSITORY / "pyproject.toml", help="[tool.audit] of it"
    )
    return parser.parse_args()


def reached(service: str) -> bool:
    request = urllib.request.Request(service, json.dumps(INFAMOUS).encode())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return bool(json.load(answer).get("vulns"))
    except (OSError, ValueError):
        return False


def pins(files: Iterable[Path]) -> list[str]:
    """Without hashes: pip-audit wants them on all lines or on none."""
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted({line.split()[0] for line in lines if "==" in line and line[0] != "#"})


def passing(file: Path) -> list[str]:
    """The ids that pass today."""
    exceptions = tomllib.loads(file.read_text(encoding="utf-8"))["tool"]["audit"]["exceptions"]
    today = datetime.date.today()
    return [each["id"] for each in exceptions if each["reason"] and each["until"] >= today]


def audit(requirements: Path, service: str, passed: list[str]) -> int:
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service=osv"]
    options = [f"--osv-url={service}", "--no-deps", "--disable-pip", "--progress-spinner=off"]
    ignored = [f"--ignore-vuln={each}" for each in passed]
    return subprocess.run(
        [*command, *options, *ignored, f"--requirement={requirements}"],
        env=os.environ
        | {"PIP_AUDIT_LOGLEVEL": "error"},  # it would advise hashes, which the lock has
    ).returncode


if __name__ == "__main__":
    main()
