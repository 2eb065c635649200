"""Small programs on the fake GPU, each in a process forked from one that has imported its modules.

The test receives the program's return value. Environment variables select the fake machine.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from tests.fake_cuda.gpu import FakeMachine

LIMIT_S = 60
Program = Callable[..., Any]
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__, "model_handler.loading.loader"])


def _run(
    connection: Connection, environment: Mapping[str, str], program: Program, *arguments: Any
) -> None:
    os.environ |= environment
    connection.send(program(*arguments))
    connection.recv()  # keep the program's device memory until the test ends
    os._exit(0)  # PyTorch cannot exit cleanly after a lost device


@contextmanager
def running(
    environment: Mapping[str, str], program: Program, *arguments: Any
) -> Iterator[tuple[BaseProcess, Any]]:
    """The process of a program that has returned and stays alive, and its return value."""
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=_run, args=(theirs, environment, program, *arguments))
    process.start()
    theirs.close()
    try:
        assert ours.poll(LIMIT_S), "the program takes too long"
        yield process, ours.recv()
    finally:
        ours.close()
        process.kill()
        process.join()


def result(machine: FakeMachine, program: Program, *arguments: Any, **settings: str) -> Any:
    """The program's return value. Capital names are settings, without the prefix FAKE_CUDA_."""
    with running(machine.environment(**settings), program, *arguments) as (_, found):
        return found


# ---- programs ----

KEPT: list[torch.Tensor] = []  # lives as long as the process


def block(mebibytes: int, device: str = "cuda") -> torch.Tensor:
    return torch.empty(mebibytes << 20, dtype=torch.uint8, device=device)


def hold(mebibytes: int) -> None:
    KEPT.append(block(mebibytes))


def hold_content(content: bytes) -> None:
    KEPT.append(torch.frombuffer(bytearray(content), dtype=torch.uint8).cuda())


def used_nbytes(device: int = 0) -> int:
    """Bytes used by all processes, including this one."""
    free, total = torch.cuda.mem_get_info(device)
    return int(total - free)


def used_around_a_block() -> tuple[int, int, int]:
    """Bytes used before, during and after the allocation."""
    before = used_nbytes()
    held = block(50)
    during = used_nbytes()
    del held
    torch.cuda.empty_cache()
    return before, during, used_nbytes()


def used_on_each_device() -> list[int]:
    """Allocates a block on the second device."""
    KEPT.append(block(50, "cuda:1"))
    return [used_nbytes(0), used_nbytes(1)]


def allocate(*mebibytes: int) -> list[bool]:
    """Allocates one block after the other. Returns which of them succeeded."""
    return [_is_allocated(each) for each in mebibytes]


def _is_allocated(mebibytes: int) -> bool:
    try:
        block(mebibytes)
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.empty_cache()
    return True


def copy_around_changes() -> tuple[list[float], list[float]]:
    """Changes pinned memory before the wait for the first copy, and after the wait for the second."""
    source = torch.ones(1000).pin_memory()
    early, late = torch.zeros(2, 1000, device="cuda")
    torch.cuda.synchronize()
    early.copy_(source, non_blocking=True)
    source.fill_(2)
    torch.cuda.synchronize()
    late.copy_(source, non_blocking=True)
    torch.cuda.synchronize()
    source.fill_(3)
    return early.cpu().unique().tolist(), late.cpu().unique().tolist()


def read_behind_another_stream() -> tuple[list[float], list[float]]:
    """The values that the default stream reads before and after it waits for the copy of another stream."""
    source = torch.ones(1000).pin_memory()
    there = torch.zeros(1000, device="cuda")
    stream, copied = torch.cuda.Stream(), torch.cuda.Event()
    with torch.cuda.stream(stream):
        there.copy_(source, non_blocking=True)
        copied.record()
    without = there.cpu().unique().tolist()
    copied.wait()
    return without, there.cpu().unique().tolist()


def query_twice() -> list[bool]:
    there = torch.zeros(1000, device="cuda")
    copied = torch.cuda.Event()
    there.copy_(torch.ones(1000).pin_memory(), non_blocking=True)
    copied.record()
    return [copied.query(), copied.query()]


def convert(dtype: torch.dtype) -> tuple[bool, bool]:
    """True if a conversion to the type and back gives the same result on the device and on the CPU."""
    values = torch.randn(4099) * 100
    there = values.cuda().to(dtype)
    expected = values.to(dtype)
    return torch.equal(there.cpu(), expected), torch.equal(there.float().cpu(), expected.float())


def register(*steps: tuple[int, int] | None) -> list[int]:
    """The codes of registering parts of one block (offset and size), or of unregistering all (None)."""
    memory, cudart = torch.empty(1 << 20, dtype=torch.uint8), torch.cuda.cudart()
    found = []
    for step in steps:
        if step is None:
            code = cudart.cudaHostUnregister(memory.data_ptr())
        else:
            code = cudart.cudaHostRegister(memory.data_ptr() + step[0], step[1], READ_ONLY)
        found.append(int(code))
    return found


READ_ONLY = 8  # cudaHostRegisterReadOnly


def use_three_times() -> list[str]:
    """Allocate, copy and compute. Returns the first lines of the errors."""
    said = []
    for _ in range(3):
        try:
            (torch.empty(1 << 22, device="cuda").copy_(torch.ones(1 << 22)) + 1).cpu()
        except torch.AcceleratorError as error:
            said.append(str(error).partition("\n")[0])
    return said


def use_in_a_fork() -> str:
    """The error of a child that uses the device after its parent has only counted the devices."""
    torch.cuda.device_count()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            torch.ones(3).cuda()
        except RuntimeError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(reader, 1000).decode()


def capability() -> tuple[int, int]:
    return torch.cuda.get_device_capability()
