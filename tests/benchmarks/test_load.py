"""The load generator against servers whose behaviour is known."""

import asyncio
from collections import Counter

import msgspec
import pytest

from benchmarks import load, traffic
from tests.benchmarks.fake_server import Answer, after, serving

BOTH = [load.RequestKind("a", "/a", ["1", "2"], 3.0), load.RequestKind("b", "/b", ["3"], 1.0)]


def outcome(answer: Answer, **plan: object) -> load.RequestOutcome:
    async def run() -> load.RequestOutcome:
        async with serving(answer) as port:
            return await load.generate(msgspec.convert({"port": port, **plan}, load.Plan))

    return asyncio.run(run())


async def at_once(verb: str, path: str, body: bytes) -> int:
    return 200


def plan(**changes: object) -> dict[str, object]:
    kinds = msgspec.to_builtins(BOTH)
    return {"kinds": kinds, "seconds": 0.3, "clients": 4, "warmup_s": 0.0, **changes}


def test_a_closed_loop_has_as_many_requests_in_flight_as_clients() -> None:
    now = most = 0

    async def count(verb: str, path: str, body: bytes) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await after(0.01)
        now -= 1
        return 200

    result = outcome(count, **plan())
    assert most == 4
    assert result.all.count <= 4 * 31
    assert result.all.p50 >= 10


def test_models_are_asked_by_weight_and_bodies_in_turn() -> None:
    seen: Counter[tuple[str, bytes]] = Counter()

    async def note(verb: str, path: str, body: bytes) -> int:
        seen[path, body] += 1
        return 200

    result = outcome(note, **plan())
    assert result.kinds["a"].count + result.kinds["b"].count == result.all.count == seen.total()
    assert result.kinds["a"].count / result.all.count == pytest.approx(0.75, abs=0.1)
    assert abs(seen["/a", b"1"] - seen["/a", b"2"]) <= 1


def test_an_open_loop_sends_what_was_drawn_whatever_the_server_does() -> None:
    result = outcome(at_once, **plan(rate=200.0, seconds=0.5, seed=1))
    assert result.all.count == len(traffic.poisson(200.0, 0.5, 1))


def test_latency_counts_from_when_a_request_was_due() -> None:
    """One stall of 0.2 s delays all later requests, and each latency includes its delay."""
    stalled = False

    async def stall_once(verb: str, path: str, body: bytes) -> int:
        nonlocal stalled
        if not stalled:
            stalled = True
            await after(0.2)
        return 200

    result = outcome(stall_once, **plan(rate=200.0, clients=1, seed=2))
    assert result.waited > 10
    assert result.all.p50 > 50


def test_other_answers_are_counted_apart() -> None:
    async def refuse_b(verb: str, path: str, body: bytes) -> int:
        return 200 if path == "/a" else 503

    result = outcome(refuse_b, **plan())
    assert set(result.kinds) == {"a"}
    assert result.statuses["503"] > 0


def test_a_lost_connection_is_replaced() -> None:
    answered = 0

    async def hang_up_now_and_then(verb: str, path: str, body: bytes) -> int | None:
        nonlocal answered
        answered += 1
        return None if answered % 5 == 0 else 200

    result = outcome(hang_up_now_and_then, **plan(clients=2))
    assert result.statuses["0"] > 2
    assert result.all.count > 3 * result.statuses["0"]


def test_without_a_good_answer_there_is_no_outcome() -> None:
    async def refuse(verb: str, path: str, body: bytes) -> int:
        return 500

    with pytest.raises(load.Failed, match="500"):
        outcome(refuse, **plan(seconds=0.1))


def test_what_is_due_while_warming_up_does_not_count() -> None:
    result = outcome(at_once, **plan(rate=100.0, seconds=0.6, warmup_s=0.3, seed=4))
    due = traffic.poisson(100.0, 0.6, 4)
    assert result.all.count == sum(at >= 0.3 for at in due)
