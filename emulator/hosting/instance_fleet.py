"""The instances of one variant. Keeps the desired number running: an instance that fails is replaced.

A request is repeated on another instance when the connection to its instance breaks.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

from emulator.background_tasks import run_all
from emulator.containers.client import ConnectionBroken, ContainerResponse
from emulator.hosting.context import HostingContext
from emulator.hosting.instance import Instance
from emulator.hosting.routing import RoutingCandidate, choose_instance
from emulator.interfaces import DeploymentFailed, Invocation, InvocationFailed
from emulator.invocation_errors import unavailable
from emulator.records import VariantSpec, VariantStatus

_MOST_TRIES = 3
_HISTORY_S = 3600.0  # how long invocation times are kept for autoscaling

log = logging.getLogger(__name__)


class InstanceFleet:
    def __init__(self, context: HostingContext, endpoint: str, spec: VariantSpec) -> None:
        self.spec = spec
        self.weight = spec.weight
        self.invocations: deque[float] = deque()  # times by the context's clock
        self._context = context
        self._endpoint = endpoint
        self._count = spec.instance_count
        self._instances: list[Instance] = []
        self._watches: dict[Instance, asyncio.Task[None]] = {}
        self._available = asyncio.Event()
        self._closing = asyncio.Event()
        self._metrics = context.metrics.of_variant(endpoint, spec.name)
        self._turn = 0

    @property
    def status(self) -> VariantStatus:
        count = len(self._instances)
        return VariantStatus(self.spec.name, self.weight, self.weight, count, self._count)

    @property
    def desired_count(self) -> int:
        return self._count

    async def start(self) -> None:
        """Returns when every instance is in service. On DeploymentFailed no container is left."""
        try:
            await self._grow(self._count)
        except BaseException:  # cancellation included: stop the instances that did start
            await self.stop()
            raise

    async def stop(self) -> None:
        """Drains the requests in progress, then stops every container."""
        self._closing.set()
        self._available.set()
        watches = list(self._watches.values())
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await self._shrink(len(self._instances))

    async def scale(self, count: int) -> None:
        """Returns when the count is reached. On DeploymentFailed the previous count stays."""
        before, self._count = self._count, count
        try:
            await self._grow(count - len(self._instances))
        except DeploymentFailed:
            self._count = before
            raise
        await self._shrink(len(self._instances) - count)

    async def invoke(self, invocation: Invocation) -> ContainerResponse:
        """Raises InvocationFailed."""
        self._record_invocation(self._context.clock())
        self._metrics.invoked(len(self._instances))
        began = time.perf_counter()
        try:
            response = await self._invoke_with_retries(invocation)
        except InvocationFailed as failure:
            status = failure.fields.get("OriginalStatusCode", failure.status)
            assert isinstance(status, int)
            self._metrics.failed(status, model=failure.code == "ModelError")
            raise
        self._metrics.responded(response.seconds, time.perf_counter() - began)
        return response

    def _record_invocation(self, now: float) -> None:
        self.invocations.append(now)
        while self.invocations[0] < now - _HISTORY_S:
            self.invocations.popleft()

    async def _invoke_with_retries(self, invocation: Invocation) -> ContainerResponse:
        for _ in range(_MOST_TRIES):
            instance = await self._choose(invocation.target_model)
            try:
                return await instance.invoke(invocation)
            except ConnectionBroken as broken:
                log.warning(
                    "connection broken", extra={"instance": instance.id, "error": str(broken)}
                )
                if not await instance.healthy():
                    self._remove(instance)
        raise instance.connection_closed()

    async def _choose(self, target: str | None) -> Instance:
        """Select an instance. If there is none, waits for a replacement, up to the time limit of an
        invocation."""
        try:
            async with asyncio.timeout(self._context.limits.invoke_s):
                while not self._instances and not self._closing.is_set():
                    await self._available.wait()
        except TimeoutError:
            pass
        if not self._instances:
            raise unavailable(self._endpoint)
        candidates = [RoutingCandidate(i.holds(target), i.outstanding) for i in self._instances]
        self._turn += 1
        return self._instances[choose_instance(candidates, self._turn, self._context.limits.hot)]

    async def _grow(self, count: int) -> None:
        """Adds `count` instances, or none and raises DeploymentFailed."""
        started = [Instance(self._context, self._endpoint, self.spec) for _ in range(count)]
        try:
            await run_all(instance.start() for instance in started)
        except BaseException:  # a failure or a cancellation: stop the instances that did start
            await asyncio.gather(*(instance.stop() for instance in started))
            raise
        for instance in started:
            self._add(instance)

    async def _shrink(self, count: int) -> None:
        """Removes the `count` newest instances; each stops after its requests have finished."""
        leaving = self._instances[len(self._instances) - count :] if count > 0 else []
        for instance in leaving:
            self._remove(instance)
            if (watch := self._watches.pop(instance, None)) is not None:
                watch.cancel()
        cleanup = self._context.cleanup
        await asyncio.gather(*(cleanup.run(_drain_and_stop(instance)) for instance in leaving))

    def _add(self, instance: Instance) -> None:
        self._instances.append(instance)
        self._available.set()
        self._watches[instance] = _watch_task(self._watch(instance))

    def _remove(self, instance: Instance) -> None:
        if instance in self._instances:
            self._instances.remove(instance)
        if not self._instances and not self._closing.is_set():
            self._available.clear()

    async def _watch(self, instance: Instance) -> None:
        """Waits until the instance fails, then replaces it."""
        await instance.wait_until_failed()
        self._remove(instance)
        log.warning("instance failed", extra={"endpoint": self._endpoint, "instance": instance.id})
        await instance.stop()
        while not self._closing.is_set() and len(self._instances) < self._count:
            try:
                await self._grow(1)
            except DeploymentFailed as failure:
                log.error("replacement failed", extra={"reason": str(failure)})
                await self._pause()
        self._watches.pop(instance, None)
        await self._shrink(len(self._instances) - self._count)  # scaled in meanwhile

    async def _pause(self) -> None:
        closing = asyncio.ensure_future(self._closing.wait())
        await asyncio.wait({closing}, timeout=self._context.limits.restart_s)
        closing.cancel()


async def _drain_and_stop(instance: Instance) -> None:
    await instance.drain()
    await instance.stop()


def _watch_task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    task.add_done_callback(_log_failure)
    return task


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("watching an instance failed", exc_info=error)
