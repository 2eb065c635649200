"""What a process may send: reports, and no more than it was asked for."""

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator

import msgspec
import pytest

from model_handler.errors import WorkerDied
from model_handler.framing import HEADER, frame
from model_handler.messages import (
    Done,
    InferenceRequest,
    InferenceResponse,
    Ready,
    Refusal,
    Run,
)
from model_handler.processes.worker_process import WorkerProcess
from tests.model_handler.processes.test_worker_process import READY, Played, played

MIB = 1 << 20
DEEP = b"\x91" * 100_000 + b"\xc0"
SENT = "the process sent what is not a report"


def framed(payload: bytes) -> bytes:
    return HEADER.pack(len(payload)) + payload


def packed(*document: object) -> bytes:
    return framed(msgspec.msgpack.encode(document))


STRANGE = {
    "a long frame": HEADER.pack(2**31 - 2),
    "a frame of 2 MiB": HEADER.pack(2 * MIB),
    "no MessagePack": framed(b"\xc1"),
    "nothing": framed(b""),
    "a command": packed("unload", 1),
    "an unknown report": packed("finished", 1),
    "a number instead of a list": packed("done", 1, 2, 0.0, 0.0),
    "a negative size": packed("loaded", 1, -1, 0.0),
    "half a document": framed(b"\x92\xa4done"),
    "no UTF-8": framed(b"\x93\xa8poisoned\xa2\xff\xff\x00"),
    "a deep document": framed(DEEP),
    "too many results": packed("done", 1, [["refusal", "", ""]] * 4097, 0.0, 0.0),
    "too many headers": packed("done", 1, [["answer", b"", "", None, [["", ""]] * 129]], 0.0, 0.0),
}


def run(size: int) -> Run:
    return Run(1, 1, [InferenceRequest(b"")] * size, 1.0)


@pytest.mark.parametrize("sent", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("ready", [False, True])
def test_a_process_that_sends_no_report_is_replaced(sent: bytes, ready: bool) -> None:
    async def scenario(worker: Played) -> None:
        if not ready:
            worker.end.sendall(sent)
            with pytest.raises(WorkerDied, match=SENT):
                await worker.start()
            return
        worker.send(READY)
        process = await worker.start()
        answer = await worker.call(process.run(Run(1, 1, [], 1.0)))
        worker.end.sendall(sent)
        with pytest.raises(WorkerDied, match=SENT):
            await answer
        assert [reason for reason, _, _ in worker.lost] == [SENT]
        assert process.replaced

    played(scenario)


def test_reports_that_nobody_waits_for_are_ignored() -> None:
    async def scenario(worker: Played) -> None:
        worker.send(READY, READY, Ready(8, "cpu", 0, 0))
        process = await worker.start()
        gone = await worker.call(process.run(Run(1, 1, [], 1.0)))
        gone.cancel()
        worker.send(Done(1, [], 0.0, 0.0), Done(1, [], 0.0, 0.0), Done(99, [], 0.0, 0.0), READY)
        answer = await worker.call(process.run(Run(2, 1, [], 1.0)))
        worker.send(Done(2, [], 0.0, 0.0))
        assert await answer == Done(2, [], 0.0, 0.0)
        assert process.pid == READY.pid
        assert not worker.lost

    played(scenario)


@pytest.mark.parametrize("excess", [0, 1])
def test_a_batch_may_answer_the_limit_for_each_request(excess: int) -> None:
    limit = 2 * MIB

    async def scenario(worker: Played) -> None:
        worker.send(READY)
        process = await WorkerProcess.start(worker.process, lambda _: None, limit)
        answer = await worker.call(process.run(run(3)))
        body = b"x" * (limit + excess * MIB)
        done = Done(1, [InferenceResponse(body, "a" * 500)] * 3, 0.0, 0.0)
        await asyncio.to_thread(send_all, worker, frame(done))
        if excess:
            with pytest.raises(WorkerDied, match=SENT):
                await answer
        else:
            assert await answer == done
            await process.end()

    played(scenario)


def send_all(worker: Played, data: bytes) -> None:
    try:
        worker.end.sendall(data)
    except OSError:
        return  # the front closed its end


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def test_an_unfinished_frame_goes_with_its_connection(traced: None) -> None:
    """Without a garbage collection, and while somebody still holds the WorkerProcess."""

    async def scenario(worker: Played) -> None:
        worker.send(READY)
        process = await worker.start()
        answer = await worker.call(process.run(run(1)))
        before, _ = tracemalloc.get_traced_memory()
        unfinished = HEADER.pack(40 * MIB) + b"x" * (30 * MIB)
        await asyncio.to_thread(send_all, worker, unfinished)
        del unfinished
        worker.end.close()
        with pytest.raises(WorkerDied):
            await answer
        after, peak = tracemalloc.get_traced_memory()
        assert peak - before > 50 * MIB
        assert after - before < 1 * MIB
        assert process.ended.is_set()

    played(scenario)


def test_results_and_refusals_come_as_they_were_sent() -> None:
    async def scenario(worker: Played) -> None:
        worker.send(READY)
        process = await worker.start()
        answer = await worker.call(process.run(run(2)))
        headers = (("a", "b"),) * 128
        done = Done(1, [InferenceResponse(b"", "", "c", headers), Refusal("a", "b", 1)], 0.0, 0.0)
        worker.send(done)
        assert await answer == done
        await process.end()

    played(scenario)
