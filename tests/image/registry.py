"""A local image registry (Debian's docker-registry): either open, or reachable under ECR's host name.

For the latter, a process uses `Tunnel` as its HTTPS proxy and trusts the registry's certificate. Requests to
ECR's host then reach the local registry by TLS, with ECR's user and password.
"""

import base64
import json
import re
import socket
import socketserver
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.contract.waiting import background, until

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
Section = dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str

    @property
    def header(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def write(self, file: Path) -> None:
        """Write an htpasswd file. The registry accepts bcrypt only."""
        program = "print crypt($ARGV[0], q($2b$04$abcdefghijklmnopqrstuu))"
        command = ["perl", "-e", program, self.password]
        hashed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        file.write_text(f"{self.user}:{hashed}\n")


@dataclass(frozen=True, slots=True)
class Registry:
    """`certificate`: None for a registry with plain HTTP and without a login."""

    port: int
    certificate: Path | None = None
    login: Login | None = None

    def ask(self, path: str) -> bytes:
        scheme = "https" if self.certificate else "http"
        headers = {"Accept": MANIFEST} | (
            {"Authorization": self.login.header} if self.login else {}
        )
        request = urllib.request.Request(f"{scheme}://127.0.0.1:{self.port}{path}", headers=headers)
        trusted = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
            return bytes(answer.read())


@contextmanager
def open_registry(folder: Path) -> Iterator[Registry]:
    with _running(folder, {}, {}) as port:
        yield Registry(port)


@contextmanager
def ecr_registry(folder: Path, host: str, login: Login) -> Iterator[Registry]:
    certificate, key = _certificate(folder, host)
    passwords = folder / "htpasswd"
    login.write(passwords)
    tls = {"tls": {"certificate": str(certificate), "key": str(key)}}
    with _running(folder, tls, {"htpasswd": {"realm": "ecr", "path": str(passwords)}}) as port:
        yield Registry(port, certificate, login)


@contextmanager
def _running(folder: Path, http: Section, auth: Section) -> Iterator[int]:
    """Yield the port. The configuration is written as JSON, which is valid YAML."""
    configuration, log = folder / "registry.json", folder / "registry.log"
    told = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": "127.0.0.1:0", **http},
        "auth": auth,
    }
    configuration.write_text(json.dumps(told))
    with log.open("w") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(configuration)], stdout=output, stderr=output
        )
    try:
        found = until(lambda: re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text()))
        assert found
        yield int(found[1])
    finally:
        process.terminate()
        process.wait()


def _certificate(folder: Path, host: str) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    names = ["-subj", "/CN=registry", "-addext", f"subjectAltName=DNS:{host},IP:127.0.0.1"]
    subprocess.run([*command, *files, *names], check=True, capture_output=True)
    return certificate, key


class Tunnel(socketserver.ThreadingTCPServer):
    """An HTTP proxy that connects every CONNECT request to the registry. `hosts`: the requested hosts."""

    daemon_threads = True

    def __init__(self, registry: Registry) -> None:
        super().__init__(("127.0.0.1", 0), _Connect)
        self.registry = registry
        self.hosts: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Connect(socketserver.StreamRequestHandler):
    server: Tunnel

    def handle(self) -> None:
        method, host, _ = self.rfile.readline().decode().split()
        assert method == "CONNECT"
        while self.rfile.readline().strip():
            pass
        self.server.hosts.add(host)
        with socket.create_connection(("127.0.0.1", self.server.registry.port)) as registry:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            with background(lambda: _copy(registry, self.connection)):
                _copy(self.connection, registry)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


@contextmanager
def tunnel_to(registry: Registry) -> Iterator[Tunnel]:
    with Tunnel(registry) as tunnel:
        thread = threading.Thread(target=tunnel.serve_forever)
        thread.start()
        yield tunnel
        tunnel.shutdown()
        thread.join()
