"""The engine: many models on one device behind five verbs. Held by `container`, usable without it.

Invariant: what `models` lists can be invoked; after `unload`, and after a failed `load`, the model's
bytes are back. All state changes on the event loop; files are read off it.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from types import TracebackType
from typing import Self

from model_handler.artifacts import artifact
from model_handler.engine import admission
from model_handler.engine.fleet import Fleet
from model_handler.engine.jobs import Job
from model_handler.engine.metrics import Metrics
from model_handler.engine.recovery import Recovery
from model_handler.engine.registry import Registry
from model_handler.engine.scheduler import Scheduler, unloading
from model_handler.errors import (
    DeadlineExceeded,
    Draining,
    ModelLoadFailed,
    ModelNotFound,
    WorkerDied,
)
from model_handler.memory.pools import MemoryPool, Tier
from model_handler.memory.residency import Residency
from model_handler.messages import InferenceRequest, InferenceResponse, Ready
from model_handler.model import Model, ModelInfo, State
from model_handler.options import EngineOptions
from model_handler.processes.forkserver_client import ForkServerClient

log = logging.getLogger(__name__)


class Engine:
    def __init__(
        self,
        options: EngineOptions,
        forks: ForkServerClient,
        workers: Fleet,
        residency: Residency,
        scheduler: Scheduler,
        metrics: Metrics,
    ) -> None:
        self.options = options
        self._forks = forks
        self._workers = workers
        self._supervisor = workers.main.supervisor
        self._residency = residency
        self._scheduler = scheduler
        self._metrics = metrics
        self._registry = Registry()
        self._device = ""  # known from the first worker on
        self._draining = False
        self._busy = 0
        self._idle = asyncio.Event()
        self._recovery = Recovery(workers, residency, scheduler, metrics, self._forget)
        self._departures: set[asyncio.Task[None]] = set()
        self._exit = AsyncExitStack()

    # ---- life ----

    async def __aenter__(self) -> Self:
        """Returns at once: the worker starts in the background."""
        main = self._workers.main
        self._supervisor.on_ready = self._worker_ready
        self._supervisor.on_lost = lambda culprit: self._recovery.device_lost(main, culprit)
        self._workers.on_ready = self._recovery.device_ready
        self._workers.on_lost = self._recovery.device_lost
        self._workers.on_isolated_lost = self._recovery.isolated_lost
        self._workers.on_growth = self._residency.remeasure
        self._publish()
        await self._exit.enter_async_context(self._forks)
        await self._exit.enter_async_context(self._supervisor)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._recovery.stop()
        await self._workers.stop()
        await self._exit.aclose()

    def health(self) -> str | None:
        """None, or one line why this container should be replaced."""
        return "draining" if self._draining else self._supervisor.sickness()

    def drain(self) -> None:
        """From now on `load` and `invoke` raise Draining."""
        self._draining = True

    async def idle(self) -> None:
        """Return when nothing is in flight."""
        while self._busy:
            await self._idle.wait()

    # ---- the catalogue ----

    def models(self) -> list[ModelInfo]:
        return [model.info for model in self._registry.all_ready()]

    def model(self, name: str) -> ModelInfo:
        """Raises ModelNotFound."""
        return self._registry.ready(name).info

    def resolve(self, target: str) -> str:
        """A loaded name from a name or from the TargetModel its load carried."""
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
            model = self._registry.begin(ModelInfo(name, url, target))
            await asyncio.shield(asyncio.create_task(self._load(model)))

    async def _load(self, model: Model) -> None:
        """Run as a task of its own: a caller that leaves does not leave a load half undone."""
        began = time.monotonic()
        try:
            await self._bring_up(model)
        except BaseException as error:
            self._dismiss(model)
            self._load_failed(model, error)
            raise
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

    async def _bring_up(self, model: Model) -> None:
        try:
            async with asyncio.timeout(self.options.load_timeout_s):
                await self._supervisor.available()
                model.artifact = await asyncio.to_thread(self._inspect, model.info.url)
                work_queue = self._workers.assign(model)
                overhead = self._workers.overhead(model)
                await self._residency.admit(model, model.artifact.nbytes, overhead)
        except TimeoutError:
            limit = self.options.load_timeout_s
            raise ModelLoadFailed(f"loading took longer than {limit:g} s") from None
        self._scheduler.open(
            model, work_queue, admission.queue_bounds(model.artifact, self.options)
        )
        model.become(State.READY)

    def _inspect(self, url: str) -> artifact.Artifact:
        options = self.options
        return artifact.inspect(
            artifact.locate(url, options.model_roots),
            default_task=options.default_task,
            dtype=options.dtype,
            device=self._device,
        )

    def _load_failed(self, model: Model, error: BaseException) -> None:
        self._metrics.loads.labels(type(error).__name__).inc()
        log.warning("load refused", extra=_facts(model) | {"reason": str(error)})

    # ---- unload ----

    async def unload(self, name: str) -> None:
        """Return when the model's bytes are back. Raises ModelNotFound.

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
        model.become(State.UNLOADING)
        return model

    async def _take_down(self, model: Model) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.unload_timeout_s):
                await self._scheduler.drained(model)
        self._scheduler.abandon(model, unloading(model.info.name))
        if model.isolated:
            self._workers.interrupt(model, "unloaded while it computes")
        await self._scheduler.drained(model)
        self._scheduler.close(model)
        await self._residency.vacate(model)
        self._dismiss(model)

    def _dismiss(self, model: Model) -> None:
        self._recovery.dismiss(model)
        self._workers.dismiss(model)
        self._registry.remove(model)

    # ---- invoke ----

    async def invoke(self, name: str, request: InferenceRequest) -> InferenceResponse:
        """One answer, within `request_timeout_s` of now. Cancel it when the client has gone.

        Raises ModelNotFound, QueueFull, DeadlineExceeded, Unavailable, or what the model answered.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + self.options.request_timeout_s
        outcome = "ok"
        try:
            self._refuse_if_draining()
            with self._being_busy():
                async with asyncio.timeout_at(deadline):
                    model = await self._serving(name)
                    job = Job(request, deadline, loop.create_future())
                    return await self._scheduler.submit(model, job)
        except TimeoutError:
            outcome = DeadlineExceeded.__name__
            limit = self.options.request_timeout_s
            raise DeadlineExceeded(f"no answer within {limit:g} s") from None
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            known = name if outcome != ModelNotFound.__name__ else "unknown"
            self._metrics.invoked(known, outcome, loop.time() - began)

    async def _serving(self, name: str) -> Model:
        """The READY model; one that is still loading is waited for."""
        found = self._registry.find(name)
        if found is not None and found.state is State.LOADING:
            await found.settled.wait()
        return self._registry.ready(name)

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise Draining("the container is shutting down")

    @contextmanager
    def _being_busy(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()
                self._idle = asyncio.Event()

    # ---- the worker's comings and goings ----

    def _worker_ready(self, ready: Ready) -> None:
        if not self._device:
            self._device = ready.device.partition(":")[0]
            budget = admission.budget(self.options, ready)
            self._residency.open(budget.device_nbytes, budget.host_nbytes)
            self._workers.settle(admission.process_options(self.options, ready, budget))
        self._recovery.device_ready(self._workers.main)

    def _forget(self, model: Model, reason: str) -> None:
        """Give up a model that cannot be restored: requests get 404, and the platform loads it again."""
        if model.state is not State.READY:
            return
        log.error("model lost", extra=_facts(model) | {"reason": reason})
        model.become(State.UNLOADING)
        self._scheduler.abandon(model, WorkerDied("the model could not be restored"))
        departure = asyncio.create_task(self._take_down(model))
        self._departures.add(departure)
        departure.add_done_callback(self._departures.discard)

    # ---- figures ----

    def _publish(self) -> None:
        figures = self._metrics
        figures.watch(self._pools, [Tier.DEVICE.value, Tier.HOST.value])
        figures.gauge("mme_models_loaded", "Models that can be invoked", lambda: len(self.models()))
        figures.gauge("mme_requests_waiting", "In queues", self._scheduler.waiting)
        figures.gauge("mme_batches_running", "In flight", self._scheduler.running)

    def _pools(self) -> list[MemoryPool]:
        return [pool for pool in (self._residency.device, self._residency.host) if pool is not None]

    def answered(self, model: str, outcome: str) -> None:
        """Count an answer that did not come from `invoke`: see `Metrics.answered`."""
        self._metrics.answered(model, outcome)

    def exposition(self) -> bytes:
        """Prometheus text format 0.0.4."""
        return self._metrics.exposition()


def _facts(model: Model) -> dict[str, object]:
    nbytes = model.artifact.nbytes if model.artifact else 0
    return {"model": model.info.name, "target": model.info.target, "nbytes": nbytes}
