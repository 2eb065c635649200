"""Connections, processes and files that do harm while a neighbour is asked: endless bodies, pipelining,
handlers that write to the server's sockets, files cut off while they are mapped, a stopped fork server."""

import contextlib
import io
import json
import signal
import socket
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from model_handler.processes.forkserver_client import SERVER, TEMPLATE
from tests import artifacts
from tests.chaos import scripts
from tests.chaos.scripts import do
from tests.contract import raw
from tests.contract.client import path_of
from tests.contract.targets import RESERVED, processes
from tests.contract.waiting import until
from tests.hostile import test_requests
from tests.hostile.inputs.artifacts import edited
from tests.hostile.inputs.files import WEIGHTS, overlap, reheaded
from tests.hostile.watched_server import QUESTION, WatchedServer, WatchedServers

ENVIRONMENT = test_requests.ENVIRONMENT
BODY_NBYTES = 31 << 20
BODIES = 40
BODIES_KEPT_NBYTES = 512 << 20
PIPELINED = 50
REPLACED_S = 60.0


# ---- what is on the wire ----


def test_bodies_that_never_end(server: WatchedServer) -> None:
    """They are bounded in total while they arrive, and given back with their connections."""
    head = raw.head("POST", "/models/neighbour/invoke", {"Content-Length": BODY_NBYTES + 1})
    before = server.front_nbytes()
    with server.watched():
        with contextlib.ExitStack() as stack:
            for _ in range(BODIES):
                connection = stack.enter_context(raw.connect(server.address))
                connection.settimeout(0.5)
                with contextlib.suppress(
                    OSError
                ):  # the server may refuse the body or read no further
                    connection.sendall(head + bytes(BODY_NBYTES))
            grown = server.front_nbytes() - before
        assert grown < BODIES_KEPT_NBYTES


def test_pipelined_requests(server: WatchedServer) -> None:
    """Each has its answer, however many are sent before the first is read."""
    request = raw.post("/models/neighbour/invoke", QUESTION)
    with server.watched(), raw.connect(server.address) as connection:
        connection.sendall(request * PIPELINED)
        received = b""
        while received.count(b"HTTP/1.1 200") < PIPELINED:
            more = connection.recv(1 << 16)
            assert more, f"closed after {received.count(b'HTTP/1.1 200')} answers"
            received += more


@pytest.mark.parametrize("version", [b"1.0", b"0.9"])
def test_chunked_with_an_old_version(server: WatchedServer, version: bytes) -> None:
    """HTTP/1.0 has no chunks: a proxy in front could see other requests than the server."""
    fields = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    head = raw.head("POST", "/models/neighbour/invoke", fields).replace(
        b"HTTP/1.1", b"HTTP/" + version
    )
    with server.watched(), raw.connect(server.address) as connection:
        connection.sendall(head + raw.chunk(QUESTION) + raw.LAST_CHUNK)
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in raw.flood(connection, ())[:20]


# ---- code of models ----


@contextlib.contextmanager
def with_code(server: WatchedServer, name: str, code: str) -> Iterator[None]:
    """A model with this code, loaded in the block, while the neighbour is watched."""
    directory = server.root / name / "model"
    if not directory.exists():
        scripts.write(directory, code)
    with server.watched():
        assert server.load(name, directory).status == 200
        yield
        assert server.unload(name).status == 200


ROGUE = scripts.MISBEHAVING + scripts.ON_SOCKETS


@pytest.mark.parametrize("prefix", [struct.pack(">I", (1 << 31) - 2), struct.pack(">I", 300 << 20)])
def test_frames_that_do_not_end(server: WatchedServer, prefix: bytes) -> None:
    """A handler announces a frame on the server's sockets, writes much of it, and exits."""
    body = do("write_to_sockets", prefix=prefix.hex(), megabytes=256)
    with with_code(server, "rogue", ROGUE):
        assert server.invoke("rogue", body).status in (500, 503, 507)
        until(lambda: server.invoke("rogue", do("answer")).status == 200, within_s=REPLACED_S)


def test_many_headers(server: WatchedServer) -> None:
    """Headers set by a handler are bounded."""
    with with_code(server, "headers", scripts.MANY_HEADERS):
        answer = raw.exchange(server.address, raw.post("/models/headers/invoke", b"[1]"))
        assert len(answer.headers) < 1000
        assert sum(map(len, answer.headers.values())) < 64 << 10


def test_shared_memory_counts(server: WatchedServer) -> None:
    """It is refused beyond the ledger's capacity, or reserved."""
    with with_code(server, "sharing", ROGUE):
        reply = server.invoke("sharing", do("share", megabytes=1400))
        reserved = server.gauges()[RESERVED]
        assert reply.status in (500, 503, 507) or reserved > 1400 << 20


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.parametrize("names", [[SERVER], [TEMPLATE, SERVER], [SERVER, TEMPLATE]], ids="-".join)
def test_a_lost_fork_server(
    server: WatchedServer, number: signal.Signals, names: list[str]
) -> None:
    """It is replaced, and models with code of their own can be loaded again."""
    code = server.root / "late" / "model"
    if not code.exists():
        scripts.write(code, scripts.SUM)
    with server.watched(replaced=True):
        for name in names:
            lose(server, name, number)
        until(lambda: server.load("late", code).status == 200, within_s=REPLACED_S)
        assert server.invoke("late", b"[1, 2]").status == 200
        assert server.unload("late").status == 200


def lose(server: WatchedServer, name: str, number: signal.Signals) -> None:
    """Send a signal to the process with this name; return when another one has taken its place."""
    (first,) = named(server, name)
    first.send_signal(number)
    until(lambda: named(server, name) not in ([], [first]), within_s=REPLACED_S)


def named(server: WatchedServer, name: str) -> list[psutil.Process]:
    """Processes of the server with this name."""
    found = []
    for each in processes(server.process):
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.name() == name and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


# ---- files of loaded models ----


def test_weights_cut_off_while_mapped(server: WatchedServer) -> None:
    """It costs its own model, or one replaced worker; nobody's answers."""
    directory = artifacts.bert_classifier(server.root / "cut" / "model", seed=3)
    with server.watched(replaced=True):
        assert server.load("cut", directory).status == 200
        with (directory / WEIGHTS).open("r+b") as file:
            file.truncate(4096)
        assert server.invoke("cut").status in (200, 500, 503, 504)
        assert server.unload("cut").status in (200, 404)


def test_overlapping_weights_after_sound_ones(server: WatchedServer) -> None:
    """Refused also when a sound model of the same structure was loaded before."""
    sound = artifacts.bert_classifier(server.root / "sound" / "model")
    (server.root / "overlapping").mkdir()
    overlapping = server.root / "overlapping" / "model"
    reheaded(overlap)(overlapping)
    with server.watched():
        assert server.load("sound", sound).status == 200
        assert server.load("overlapping", overlapping).status == 500
        assert server.unload("sound").status == 200


def test_weights_for_another_config(server: WatchedServer) -> None:
    """A file with fewer weights than the config asks for is refused before anything is allocated."""
    directory = artifacts.bert_classifier(server.root / "small" / "model")
    weights = load_file(directory / WEIGHTS)
    name = "bert.embeddings.word_embeddings.weight"
    save_file(weights | {name: np.zeros((4, 4), np.float32)}, directory / WEIGHTS, {"format": "pt"})
    edited(directory / "config.json", vocab_size=20_000_000)
    before = peak_nbytes(server)
    with server.watched():
        assert server.load("small", directory).status in (500, 507)
        assert peak_nbytes(server) - before < 256 << 20


def peak_nbytes(server: WatchedServer) -> int:
    """The highest memory that any of the server's running processes had, in bytes."""
    return max(_peak(process.pid) for process in processes(server.process))


def _peak(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def test_eight_loads_that_kill(server: WatchedServer) -> None:
    """A platform that loads the same deadly artifact again and again does not lose the instance."""
    directory = server.root / "deadly" / "model"
    directory.mkdir(parents=True)
    (directory / "model.json").write_bytes(b'{"a":' + b"[" * 2_000_000)
    with server.watched():
        for _ in range(8):
            assert server.load("deadly", directory).status == 500


# ---- without the platform ----


def archive(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hostile archives around a sound one. They are unpacked in the order of their names."""
    directory = tmp_path_factory.mktemp("archives")
    archive(directory / "a-deep.tar.gz", {"a/" * 1900 + "f": b"x"})
    archive(directory / "b-deeper.tar.gz", {"b/" * 30_000 + "f": b"x"})
    archive(directory / "c-long.tar.gz", {"c" * 5000: b"x"})
    archive(directory / "d-surrogate.tar.gz", {"d\udcff": b"x"})
    (directory / "e-text.tar.gz").write_bytes(b"not an archive")
    sound = artifacts.bert_classifier(tmp_path_factory.mktemp("sound") / "model")
    with tarfile.open(directory / "z-sound.tar.gz", "w:gz") as tar:
        tar.add(sound, ".")
    return directory


def test_archives_beside_hostile_ones(servers: WatchedServers, archives: Path) -> None:
    """Those that cannot be unpacked are logged; the sound one is served."""
    servers.stop()
    with servers.standalone(archives) as server:
        until(lambda: server.send("GET", "/ping").status == 200, within_s=REPLACED_S)
        models = json.loads(server.send("GET", "/models").body)["models"]
        assert [each["modelName"] for each in models] == ["z-sound"]
        assert server.send("POST", f"{path_of('z-sound')}/invoke", QUESTION).status == 200
        assert "a-deep" in server.process.logs()
