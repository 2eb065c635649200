"""The budget of bytes for request bodies, without a server."""

import asyncio

import pytest

from container.http import body_budget
from container.http.body_budget import BodyBudget
from container.http.request import Request
from container.http.responses import Response

MIB = 1 << 20


class Nowhere:
    def answer(self, request: Request, response: Response) -> None:
        """There is no client."""

    def await_body(self, request: Request) -> None:
        """There is no body."""


def test_a_released_share_cannot_change_the_budget() -> None:
    async def work() -> None:
        budget = BodyBudget(4 * MIB)
        request = Request(Nowhere())
        share = await budget.admit(request, "a", MIB)
        share.release()
        assert share.resize(2 * MIB)
        share.release()
        for key in ("b", "c"):
            await budget.admit(request, key, 2 * MIB)  # all of it, at once

    asyncio.run(work())


def test_memory_is_given_back_while_other_bodies_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library keeps what is freed between other bodies. Not while as much is held again."""
    monkeypatch.setattr(body_budget, "TRIM_AFTER_S", 0.0)

    async def work() -> None:
        trimmed: asyncio.Queue[None] = asyncio.Queue()
        budget = BodyBudget(256 * MIB, lambda: trimmed.put_nowait(None))
        await budget.admit(Request(Nowhere()), "b", MIB)
        for _ in range(2):
            for _ in range(2):
                large = await budget.admit(Request(Nowhere()), "a", 100 * MIB)
                large.release()
            await asyncio.wait_for(trimmed.get(), 10)
        assert trimmed.empty()

    asyncio.run(work())
