"""Memory that a model's code takes beside the private memory of its process is counted and limited."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model_handler.messages import Done
from tests.model_handler.scripted.process import Model, Process, request, write
from tests.model_handler.scripted.test_process import EXECUTING

MIB = 1 << 20
TAKEN = 48 * MIB
FILL = f"import mmap, os, subprocess, sys; n = {TAKEN}\n"
CHILD = "kept = bytearray(b'1') * int(sys.argv[1]); print(len(kept), flush=True); sys.stdin.read()"
KINDS = {
    "shared mapping": "kept = mmap.mmap(-1, n); kept.write(bytes(1) * n); KEPT.append(kept)",
    "memfd": "fd = os.memfd_create('x'); os.write(fd, bytes(1) * n); KEPT.append(os.fdopen(fd))",
    "open file": (
        "f = open('/dev/shm/mme-test', 'wb', 0); os.unlink(f.name); f.write(bytes(1) * n);"
        " KEPT.append(f)"
    ),
    "mapped file": (
        "f = open('/dev/shm/mme-test', 'w+b', 0); os.unlink(f.name); f.truncate(n);"
        " kept = mmap.mmap(f.fileno(), n); f.close(); kept.write(bytes(1) * n); KEPT.append(kept)"
    ),
    "closed file": (
        "f = open('/dev/shm/mme-test-closed', 'ab', 0); f.write(bytes(1) * n); f.close()"
    ),
    "file of a process": (
        'subprocess.run([sys.executable, \'-c\', \'import sys; open("/dev/shm/mme-test-closed", "wb")'
        ".write(bytes(int(sys.argv[1])))', str(n)])"
    ),
    "process": (
        f"p = subprocess.Popen([sys.executable, '-c', 'import sys; ' + {CHILD!r}, str(n)],"
        " stdin=-1, stdout=-1); p.stdout.readline(); KEPT.append(p)"
    ),
    "process of a process that ended": """
own, told = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        kept = bytearray(b"1") * n
        os.write(told, b".")
        signal.pause()
    os._exit(0)
os.wait()
os.read(own, 1)
""",
}


def held(model: Model, code: str) -> int:
    """The memory of the process after a request with this code."""
    model.start(request(code))
    return model.process.expect(Done).held_nbytes


@pytest.mark.parametrize("kind", KINDS)
def test_memory_beside_the_process_is_counted(deploy: Callable[..., Model], kind: str) -> None:
    model = deploy(EXECUTING)
    before = held(model, "result = 1")
    assert held(model, FILL + KINDS[kind]) - before == pytest.approx(TAKEN, abs=24 * MIB)


@pytest.fixture(autouse=True)
def _no_file_is_left() -> Iterator[None]:
    yield
    Path("/dev/shm/mme-test-closed").unlink(missing_ok=True)


def test_memory_that_was_returned_is_not_counted(deploy: Callable[..., Model]) -> None:
    model = deploy(EXECUTING)
    before = held(model, "result = 1")
    held(model, FILL + KINDS["shared mapping"])
    after = held(model, "KEPT.pop().close()")
    assert after - before < 8 * MIB


@pytest.mark.parametrize("kind", ["shared mapping", "memfd", "process"])
def test_memory_beyond_the_limit_ends_the_process_during_the_request(
    start: Callable[..., Process], tmp_path: Path, kind: str
) -> None:
    process = start(memory_nbytes=32 * MIB)
    model = process.load(write(tmp_path / "model", EXECUTING))
    assert model.ask("result = 1") == 1
    model.start(request(FILL + "n = n // 4\n" + f"{KINDS[kind]}\n" * 6 + "signal.pause()"))
    assert process.ended()
    process.prints(b"memory limit exceeded")
