"""The engine: many models on one machine behind five verbs. Held by `container`, usable without it.

Invariant: what `models` lists can be invoked; after `unload`, and after a failed `load`, the model's
memory is released. All state changes on the event loop; files are read off it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NoReturn, Self

from model_handler.background import in_background
from model_handler.engine import admission
from model_handler.engine.core import Core
from model_handler.engine.device_worker import Supervise
from model_handler.engine.metrics import OK, Metrics
from model_handler.engine.queues import Job
from model_handler.engine.registry import Registry
from model_handler.engine.scheduler import Scheduler
from model_handler.errors import (
    DeadlineExceeded,
    Draining,
    ModelLoadFailed,
    ModelNotFound,
    Unavailable,
    WorkerDied,
)
from model_handler.memory.pools import MemoryPool, Tier
from model_handler.messages import InferenceRequest, InferenceResponse, Ready
from model_handler.model import Entry, Model, ModelInfo, State
from model_handler.options import EngineOptions
from model_handler.processes.deaths import Death
from model_handler.processes.forkserver_client import ForkServerClient
from model_handler.processes.inspector import Inspector
from model_handler.processes.supervisor import Supervisor

log = logging.getLogger(__name__)

Forget = Callable[[Model, str], None]
Compose = Callable[[Supervisor, Ready, Forget], Core]


class Engine:
    """Loads, unloads and invokes models.

    `compose` creates the objects that depend on the devices, when the first worker is ready for the first
    time. Until then loads wait and `models` is empty; `health` reports an error after several failed starts.
    """

    def __init__(
        self,
        options: EngineOptions,
        forks: ForkServerClient,
        inspector: Inspector,
        supervise: Supervise,
        compose: Compose,
        registry: Registry,
        metrics: Metrics,
    ) -> None:
        self.options = options
        self._forks = forks
        self._inspector = inspector
        self._first = supervise(
            options.device, self._first_ready, self._first_lost, self._first_examined
        )
        self._compose = compose
        self._core: Core | None = None
        self._registry = registry
        self._metrics = metrics
        self._draining = False
        self._busy = 0
        self._idle = asyncio.Event()  # cleared by those that wait for it
        self._departures: set[asyncio.Task[None]] = set()
        self._publish()

    # ---- life ----

    async def __aenter__(self) -> Self:
        """Returns at once: the worker starts in the background."""
        self._first.start()
        self._inspector.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._core is not None:
            await self._core.stop()
        await self._first.stop()
        await self._inspector.stop()
        await self._forks.stop()

    def health(self) -> str | None:
        """None, or one line why this container should be replaced."""
        if self._draining:
            return "draining"
        return self._first.sickness() if self._core is None else self._core.sickness()

    def drain(self) -> None:
        """From now on `load` and `invoke` raise Draining."""
        self._draining = True

    async def idle(self) -> None:
        """Return when nothing is in flight."""
        while self._busy:
            self._idle.clear()
            await self._idle.wait()

    # ---- the catalogue ----

    def models(self) -> list[ModelInfo]:
        return self._registry.all_ready()

    def model(self, name: str) -> ModelInfo:
        """Raises ModelNotFound."""
        return self._registry.ready(name).info

    def resolve(self, target: str) -> str:
        """The name of the loaded model with this name, or whose load had this TargetModel."""
        return self._registry.resolve(target)

    # ---- load ----

    async def load(self, name: str, url: str, *, target: str | None = None) -> None:
        """Return when the model can serve. After any error nothing of it remains.

        Raises ModelAlreadyLoaded, InvalidRequest or ArtifactNotFound for the url, InsufficientMemory,
        ModelLoadFailed, Unavailable.
        """
        self._refuse_if_draining()
        with self._being_busy():
            await self._departed(name)
            entry = self._registry.begin(ModelInfo(name, url, target))
            await asyncio.shield(asyncio.create_task(self._load(entry)))

    async def _load(self, entry: Entry) -> None:
        """Run as a task of its own: a caller that leaves does not leave a load half undone."""
        began = time.monotonic()
        try:
            model = await self._bring_up(entry)
        except BaseException as error:
            self._registry.remove(entry)
            self._metrics.loads.labels(type(error).__name__).inc()
            facts = {"model": entry.info.name, "target": entry.info.target, "reason": str(error)}
            log.warning("load refused", extra=facts)
            raise
        self._registry.serve(model)
        seconds = time.monotonic() - began
        self._metrics.loads.labels("ok").inc()
        self._metrics.load_seconds.observe(seconds)
        log.info("loaded", extra=_facts(model) | {"ms": round(seconds * 1e3)})

    async def _departed(self, name: str) -> None:
        """Wait while a namesake is being unloaded, within the time a load may take."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.load_timeout_s):
                while (holder := self._registry.find(name)) and holder.state is State.UNLOADING:
                    await holder.gone.wait()

    async def _bring_up(self, entry: Entry) -> Model:
        try:
            async with asyncio.timeout(self.options.load_timeout_s):
                await (self._core or self._first).available()
                core = self._core or self._not_started()
                url = entry.info.url
                found = await self._inspector.inspect(entry.model_id, url, core.kind)
                model = Model(entry, found)
                await core.admit(model, admission.queue_bounds(found, self.options))
                return model
        except TimeoutError:
            limit = self.options.load_timeout_s
            raise ModelLoadFailed(f"loading took longer than {limit:g} s") from None

    # ---- unload ----

    async def unload(self, name: str) -> None:
        """Return when the model's memory is released. Raises ModelNotFound.

        What is in flight is answered: by the model within `unload_timeout_s`, else with
        ModelUnloading.
        """
        model = await self._claim(name)
        began = time.monotonic()
        with self._being_busy():
            await asyncio.shield(self._take_down(model))
        seconds = time.monotonic() - began
        self._metrics.unload_seconds.observe(seconds)
        log.info("unloaded", extra=_facts(model) | {"ms": round(seconds * 1e3)})

    async def _claim(self, name: str) -> Model:
        """Take the model out of service, once its load has settled."""
        found = self._registry.find(name)
        if found is not None:
            await found.settled.wait()
        model = self._registry.ready(name)
        self._registry.withdraw(model)
        return model

    async def _take_down(self, model: Model) -> None:
        core = self._core or self._not_started()
        try:
            await core.remove(model, self.options.unload_timeout_s)
        finally:
            self._registry.remove(model.entry)

    # ---- invoke ----

    async def invoke(self, name: str, request: InferenceRequest) -> InferenceResponse:
        """One answer, within `request_timeout_s` of now. Cancel it when the client has gone.

        Raises ModelNotFound, QueueFull, DeadlineExceeded, Unavailable, or what the model answered.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + self.options.request_timeout_s
        outcome = OK
        self._busy += 1
        try:
            self._refuse_if_draining()
            model = self._registry.models.get(name) or await self._loaded(name, deadline)
            core = self._core or self._not_started()
            job = Job(request, deadline, loop.create_future())
            expiry = loop.call_at(deadline, self._expire, job)
            try:
                return await core.scheduler.submit(model, job)
            finally:
                expiry.cancel()
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            self._invoked(name, outcome, loop.time() - began)

    async def _loaded(self, name: str, deadline: float) -> Model:
        """The READY model; one that is still loading is waited for."""
        found = self._registry.find(name)
        if found is not None and found.state is State.LOADING:
            try:
                async with asyncio.timeout_at(deadline):
                    await found.settled.wait()
            except TimeoutError:
                raise self._too_late() from None
        return self._registry.ready(name)

    def _expire(self, job: Job) -> None:
        if not job.answer.done():
            job.answer.set_exception(self._too_late())

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"no answer within {self.options.request_timeout_s:g} s")

    def _invoked(self, name: str, outcome: str, seconds: float) -> None:
        """Count a request that has its answer."""
        self._not_busy()
        series = self._metrics.series.get(name)
        if outcome == OK and series is not None:
            series.answers.inc()
            series.latency.observe(seconds)
        else:
            known = name if outcome != ModelNotFound.__name__ else "unknown"
            self._metrics.invoked(known, outcome, seconds)

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise Draining("the container is shutting down")

    @contextmanager
    def _being_busy(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._not_busy()

    def _not_busy(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._idle.set()

    # ---- the first worker ----

    def _first_ready(self, ready: Ready) -> None:
        if self._core is None:
            self._core = self._compose(self._first, ready, self._forget)
        self._core.recovery.device_ready(next(self._core.mains()))

    def _first_lost(self) -> None:
        if self._core is not None:
            self._core.recovery.device_lost(next(self._core.mains()))

    def _first_examined(self, death: Death) -> bool:
        if self._core is None:
            return False
        return self._core.recovery.examined(next(self._core.mains()), death)

    def _not_started(self) -> NoReturn:
        raise Unavailable("the device worker has not started yet")

    def _forget(self, model: Model, reason: str) -> None:
        """Give up a model that cannot be restored: requests get 404, and the platform loads it again."""
        if not model.ready:
            return
        log.error("model lost", extra=_facts(model) | {"reason": reason})
        self._registry.withdraw(model)
        core = self._core or self._not_started()
        core.scheduler.abandon(model, WorkerDied("the model could not be restored"))
        departure = in_background(self._take_down(model))
        self._departures.add(departure)
        departure.add_done_callback(self._departures.discard)

    # ---- figures ----

    def _publish(self) -> None:
        figures = self._metrics
        figures.watch(self._pools, [Tier.DEVICE.value, Tier.HOST.value])
        figures.gauge("mme_models_loaded", "Models that can be invoked", lambda: len(self.models()))
        figures.gauge("mme_requests_waiting", "In queues", lambda: self._count(Scheduler.waiting))
        figures.gauge("mme_batches_running", "In flight", lambda: self._count(Scheduler.running))

    def _count(self, requests: Callable[[Scheduler], int]) -> int:
        return 0 if self._core is None else requests(self._core.scheduler)

    def _pools(self) -> list[MemoryPool]:
        return [] if self._core is None else self._core.pools()

    def answered(self, model: str, outcome: str) -> None:
        """Count an answer that did not come from `invoke`: see `Metrics.answered`."""
        self._metrics.answered(model, outcome)

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4."""
        return self._metrics.exposition()


def _facts(model: Model) -> dict[str, object]:
    info = model.info
    return {"model": info.name, "target": info.target, "nbytes": model.artifact.nbytes}
