"""The instances of one variant: as many as wanted, each replaced when it fails.

A request goes to another instance when the one that had it goes away before it answered.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

from emulator.containers.client import ConnectionBroken, ContainerResponse
from emulator.hosting.cleanup import run_all
from emulator.hosting.instance import HostingContext, Instance
from emulator.hosting.routing import RoutingCandidate, choose_instance
from emulator.interfaces import DeploymentFailed, Invocation, InvocationFailed
from emulator.invocation_errors import unavailable
from emulator.records import VariantSpec, VariantStatus

_MOST_TRIES = 3
_REMEMBERED_S = 3600.0

log = logging.getLogger(__name__)


class Fleet:
    def __init__(self, site: HostingContext, endpoint: str, spec: VariantSpec) -> None:
        self.spec = spec
        self.weight = spec.weight
        self.invocations: deque[float] = deque()  # when, by the site's clock
        self._site = site
        self._endpoint = endpoint
        self._count = spec.instance_count
        self._instances: list[Instance] = []
        self._watches: dict[Instance, asyncio.Task[None]] = {}
        self._available = asyncio.Event()
        self._closing = asyncio.Event()
        self._meter = site.metrics.meter(endpoint, spec.name)
        self._turn = 0

    @property
    def status(self) -> VariantStatus:
        count = len(self._instances)
        return VariantStatus(self.spec.name, self.weight, self.weight, count, self._count)

    @property
    def desired_count(self) -> int:
        return self._count

    async def start(self) -> None:
        """Return with every instance in service. Raises DeploymentFailed; none is left then."""
        try:
            await self._grow(self._count)
        except BaseException:  # whatever ends the start, cancellation included, ends the rest of it
            await self.stop()
            raise

    async def stop(self) -> None:
        """Let requests finish, then end every container."""
        self._closing.set()
        self._available.set()
        watches = list(self._watches.values())
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await self._shrink(len(self._instances))

    async def scale(self, count: int) -> None:
        """Return when it is so. Raises DeploymentFailed, with the count as it was."""
        before, self._count = self._count, count
        try:
            await self._grow(count - len(self._instances))
        except DeploymentFailed:
            self._count = before
            raise
        await self._shrink(len(self._instances) - count)

    async def invoke(self, invocation: Invocation) -> ContainerResponse:
        """Raises InvocationFailed."""
        self._note_invocation(self._site.clock())
        self._meter.invoked(len(self._instances))
        began = time.perf_counter()
        try:
            answer = await self._tried(invocation)
        except InvocationFailed as failure:
            status = failure.fields.get("OriginalStatusCode", failure.status)
            assert isinstance(status, int)
            self._meter.failed(status, model=failure.code == "ModelError")
            raise
        self._meter.responded(answer.seconds, time.perf_counter() - began)
        return answer

    def _note_invocation(self, now: float) -> None:
        self.invocations.append(now)
        while self.invocations[0] < now - _REMEMBERED_S:
            self.invocations.popleft()

    async def _tried(self, invocation: Invocation) -> ContainerResponse:
        for _ in range(_MOST_TRIES):
            instance = await self._choose(invocation.target_model)
            try:
                return await instance.invoke(invocation)
            except ConnectionBroken as broken:
                log.warning(
                    "connection broken", extra={"instance": instance.id, "error": str(broken)}
                )
                if not await instance.healthy():
                    self._take_out(instance)
        raise instance.hung_up()

    async def _choose(self, target: str | None) -> Instance:
        """Waits for a replacement where no instance is left, as long as an invocation may take."""
        try:
            async with asyncio.timeout(self._site.limits.invoke_s):
                while not self._instances and not self._closing.is_set():
                    await self._available.wait()
        except TimeoutError:
            pass
        if not self._instances:
            raise unavailable(self._endpoint)
        candidates = [RoutingCandidate(i.holds(target), i.outstanding) for i in self._instances]
        self._turn += 1
        return self._instances[choose_instance(candidates, self._turn, self._site.limits.hot)]

    async def _grow(self, more: int) -> None:
        """By all of them, or by none."""
        fresh = [Instance(self._site, self._endpoint, self.spec) for _ in range(more)]
        try:
            await run_all(instance.start() for instance in fresh)
        except BaseException:  # one failed or we were cancelled: what did start must end again
            await asyncio.gather(*(instance.stop() for instance in fresh))
            raise
        for instance in fresh:
            self._put_in(instance)

    async def _shrink(self, fewer: int) -> None:
        """The last ones first; each ends once its requests are answered."""
        leaving = self._instances[len(self._instances) - fewer :] if fewer > 0 else []
        for instance in leaving:
            self._take_out(instance)
            if (watch := self._watches.pop(instance, None)) is not None:
                watch.cancel()
        cleanup = self._site.cleanup
        await asyncio.gather(*(cleanup.run(_retire(instance)) for instance in leaving))

    def _put_in(self, instance: Instance) -> None:
        self._instances.append(instance)
        self._available.set()
        self._watches[instance] = _background(self._watch(instance))

    def _take_out(self, instance: Instance) -> None:
        if instance in self._instances:
            self._instances.remove(instance)
        if not self._instances and not self._closing.is_set():
            self._available.clear()

    async def _watch(self, instance: Instance) -> None:
        """Replace the instance once it has failed."""
        await instance.failed()
        self._take_out(instance)
        log.warning("instance failed", extra={"endpoint": self._endpoint, "instance": instance.id})
        await instance.stop()
        while not self._closing.is_set() and len(self._instances) < self._count:
            try:
                await self._grow(1)
            except DeploymentFailed as failure:
                log.error("no replacement", extra={"reason": str(failure)})
                await self._pause()
        self._watches.pop(instance, None)
        await self._shrink(len(self._instances) - self._count)  # scaled while it was replaced

    async def _pause(self) -> None:
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait({closing}, timeout=self._site.limits.restart_s)
        closing.cancel()


async def _retire(instance: Instance) -> None:
    await instance.drain()
    await instance.stop()


def _background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    task.add_done_callback(_report)
    return task


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("watch ended", exc_info=error)
