"""image/audit.sh with the real pip-audit and a fake osv.dev, because the real one is not always reachable."""

import datetime
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.runs import LIMIT_S, REPOSITORY, tools

KNOWN = {("urllib3", "1.24.1"): "CVE-2019-11324", ("jinja2", "2.4.1"): "CVE-2014-0012"}


class FakeOsv(ThreadingHTTPServer):
    """Answers in the form of osv.dev's version 1; `asked`: name and version of each query."""

    def __init__(self, known: dict[tuple[str, str], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Query)
        self.known = known
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/query"


class _Query(BaseHTTPRequestHandler):
    server: FakeOsv

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = (query["package"]["name"], query["version"])
        self.server.asked.append(asked)
        found = self.server.known.get(asked)
        body = json.dumps({"vulns": [finding(asked[0], found)]} if found else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def finding(name: str, identity: str) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0"}]}]
    return {
        "schema_version": "1.7.0",
        "id": identity,
        "summary": "a finding",
        "affected": [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}],
    }


def served(known: dict[tuple[str, str], str]) -> Iterator[FakeOsv]:
    with FakeOsv(known) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def osv() -> Iterator[FakeOsv]:
    yield from served(KNOWN)


@pytest.fixture
def ignorant() -> Iterator[FakeOsv]:
    yield from served({})


@pytest.fixture
def vulnerable(tmp_path: Path) -> Path:
    """A file in the format of the image's lock file."""
    lock = tmp_path / "some.lock"
    lock.write_text(f"# a lock\nJinja2==2.4.1 --hash=sha256:{'0' * 64}\nidna==3.20\n")
    return lock


def audit(service: str, *files: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["image/audit.sh", *map(str, files)],
        cwd=REPOSITORY,
        env=tools() | {"OSV_URL": service} | settings,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def test_everything_pinned_is_asked_for(osv: FakeOsv) -> None:
    done = audit(osv.url)
    assert done.returncode == 0, done.stderr
    assert "No known vulnerabilities" in done.stderr
    asked = {name for name, _ in osv.asked}
    assert {"torch", "transformers", "moto", "setuptools"} < asked
    assert len(asked) > 150


def test_a_finding_fails(osv: FakeOsv, vulnerable: Path) -> None:
    done = audit(osv.url, vulnerable)
    assert done.returncode == 1
    assert "CVE-2014-0012" in done.stdout
    assert "idna" not in done.stdout


@pytest.mark.parametrize(("days", "status"), [(0, 0), (-1, 1)])
def test_an_exception_has_an_end(
    days: int, status: int, osv: FakeOsv, vulnerable: Path, tmp_path: Path
) -> None:
    until = datetime.date.today() + datetime.timedelta(days)
    exceptions = tmp_path / "exceptions.txt"
    exceptions.write_text(f"# until a day\nCVE-2014-0012 {until} no bytecode cache is used\n")
    assert audit(osv.url, vulnerable, EXCEPTIONS=str(exceptions)).returncode == status


def test_an_exception_has_a_reason(osv: FakeOsv, vulnerable: Path, tmp_path: Path) -> None:
    exceptions = tmp_path / "exceptions.txt"
    exceptions.write_text(f"CVE-2014-0012 {datetime.date.max}\n")
    assert audit(osv.url, vulnerable, EXCEPTIONS=str(exceptions)).returncode == 1


def test_without_the_service_one_line_and_no_failure(vulnerable: Path) -> None:
    done = audit("http://127.0.0.1:1/v1/query", vulnerable)
    assert done.returncode == 0
    assert done.stderr == "not audited: http://127.0.0.1:1/v1/query cannot be reached\n"


def test_a_service_that_knows_nothing_is_none(ignorant: FakeOsv, vulnerable: Path) -> None:
    done = audit(ignorant.url, vulnerable)
    assert done.returncode == 0
    assert done.stderr.startswith("not audited: ")
