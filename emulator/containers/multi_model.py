"""A container in MultiModel mode, driven as SageMaker drives it.

It loads what is invoked, unloads the least recently used model when the container answers 507, and
knows that 409 means loaded and that 404 on an invocation means load again. One load per model runs
at a time, and one eviction at a time in all.
"""

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from emulator.containers.artifact_cache import ArtifactCache, S3Downloader, S3Location
from emulator.containers.client import ContainerClient, ContainerResponse, ResponseTimeout
from emulator.containers.loaded_models import LoadedModels
from emulator.containers.process_runner import RunningContainer
from emulator.invocation_errors import ContainerErrors, invalid, not_ready
from emulator.limits import Limits
from emulator.metrics import VariantMetrics
from emulator.records import ContainerSpec

TARGET_MODEL = "x-amzn-sagemaker-target-model"
_NO_MEMORY = 507
_ALREADY_LOADED = 409
_NOT_LOADED = 404

log = logging.getLogger(__name__)


class MultiModelContainer:
    def __init__(
        self,
        spec: ContainerSpec,
        server: ContainerClient,
        running: RunningContainer,
        objects: S3Downloader,
        root: Path,
        limits: Limits,
        meter: VariantMetrics,
        origin: ContainerErrors,
    ) -> None:
        assert spec.model_data_url is not None
        self._prefix = S3Location.parse(spec.model_data_url)
        self._cached = spec.cache_models
        self._server = server
        self._models = PurePosixPath(running.models)
        self._limits = limits
        self._meter = meter
        self._origin = origin
        self._store = ArtifactCache(
            objects, root, limits.volume_nbytes, in_use=self._in_use, free=self._free
        )
        self._residents = LoadedModels()
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._posts: set[asyncio.Task[ContainerResponse]] = set()
        self._unloads: dict[str, asyncio.Task[None]] = {}
        self._eviction = asyncio.Lock()
        self._targets: dict[str, str] = {}  # what the container's names mean, for the log

    def holds(self, target: str | None) -> bool:
        """In memory, or on its way there."""
        if target is None:
            return False
        name = self._prefix.below(target).name
        return name in self._residents or name in self._loads

    async def invoke(
        self, target: str | None, body: bytes, headers: Mapping[str, str]
    ) -> ContainerResponse:
        """The container's last word. Raises InvocationFailed and ConnectionBroken."""
        assert target is not None
        source = self._prefix.below(target)
        self._targets[source.name] = target
        if ".." in source.key.split("/"):
            raise invalid(source.missing())
        headers = {**headers, TARGET_MODEL: target}
        self._meter.cache_hit(source.name in self._residents)
        reloaded = False
        while True:
            answer = await self._attempt(source, body, headers)
            if answer.status == _NO_MEMORY and await self._evict(spare=source.name):
                continue
            if answer.status == _NOT_LOADED and not reloaded:
                reloaded = True
                self._residents.drop(source.name)
                continue
            return answer

    async def close(self) -> None:
        """End what goes on in the background; the container itself is another's to stop."""
        tasks = [*self._loads.values(), *self._unloads.values(), *self._posts]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _attempt(
        self, source: S3Location, body: bytes, headers: Mapping[str, str]
    ) -> ContainerResponse:
        await self._hold(source)
        try:
            return await self._server.call(
                "POST",
                f"/models/{source.name}/invoke",
                within_s=self._limits.invoke_s,
                body=body,
                headers=headers,
            )
        except ResponseTimeout:
            raise self._origin.timed_out() from None
        finally:
            self._release(source)

    async def _hold(self, source: S3Location) -> None:
        """Return with the model loaded and a lease on it, which is the caller's to release."""
        while (unload := self._unloads.get(source.name)) is not None:
            await asyncio.wait({unload})
        self._residents.lease(source.name)
        if source.name in self._residents:
            return
        began = time.perf_counter()
        try:
            await self._loaded(source)
        except BaseException:  # the lease must not outlive the request, cancelled ones included
            self._release(source)
            raise
        finally:
            self._meter.loading_wait(time.perf_counter() - began)

    def _release(self, source: S3Location) -> None:
        self._residents.release(source.name)
        idle = source.name in self._residents and not self._residents.leased(source.name)
        if idle and not self._cached:
            self._begin_unload(source.name)

    async def _loaded(self, source: S3Location) -> None:
        """Wait as long as a caller waits; the load itself goes on after that."""
        load = self._loads.get(source.name)
        if load is None:
            load = self._loads[source.name] = _background(self._load(source))
        done, _ = await asyncio.wait({load}, timeout=self._limits.load_wait_s)
        if not done:
            raise not_ready(source.target)
        load.result()

    async def _load(self, source: S3Location) -> None:
        try:
            async with asyncio.timeout(self._limits.load_s):
                artifact = await self._store.fetch(source)
                if artifact.downloading_s is not None:
                    self._meter.downloading(artifact.downloading_s)
                answer = await self._admitted(source)
        except (TimeoutError, ResponseTimeout):
            raise self._origin.timed_out() from None
        finally:
            del self._loads[source.name]
        if not (answer.ok or answer.status == _ALREADY_LOADED):
            raise self._origin.model_error(answer.status, answer.body)
        self._residents.add(source.name)
        self._meter.loaded(len(self._residents))
        log.info("loaded", extra={"target": source.target, "ms": round(answer.seconds * 1e3)})

    async def _admitted(self, source: S3Location) -> ContainerResponse:
        """The answer to the load, after as many evictions as it takes or as there can be."""
        answer = await self._post(source)
        if answer.status != _NO_MEMORY:
            return answer
        others_evict = self._eviction.locked()
        async with self._eviction:
            if others_evict:
                answer = await self._post(source)
            while answer.status == _NO_MEMORY and await self._unload_one(source.name):
                answer = await self._post(source)
        return answer

    async def _post(self, source: S3Location) -> ContainerResponse:
        directory = self._models / source.name / "model"
        document = {"model_name": source.name, "url": str(directory)}
        json_type = "application/json"
        headers = {"content-type": json_type, "accept": json_type, TARGET_MODEL: source.target}
        post = asyncio.create_task(
            self._server.call(
                "POST",
                "/models",
                within_s=self._limits.load_s,
                body=json.dumps(document).encode(),
                headers=headers,
            )
        )
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)
        answer = await post
        if answer.ok:
            self._meter.loading(answer.seconds)
        else:
            log.info("load refused", extra={"target": source.target, "status": answer.status})
        return answer

    async def _evict(self, spare: str) -> bool:
        async with self._eviction:
            return await self._unload_one(spare)

    async def _free(self) -> bool:
        """For the volume: what is out of memory may go from there as well."""
        async with self._eviction:
            return await self._unload_one()

    async def _unload_one(self, spare: str | None = None) -> bool:
        """Unload, or wait for what may come to be unloaded. False: nothing is left to hope for."""
        name = self._residents.least_recently_used(spare)
        if name is not None:
            unload = self._begin_unload(name)
            await asyncio.wait({unload})
            unload.result()
            return True
        pending: set[asyncio.Task[Any]] = {*self._posts, *self._unloads.values()}
        if pending:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        return bool(pending)

    def _begin_unload(self, name: str) -> asyncio.Task[None]:
        self._residents.drop(name)
        unload = self._unloads[name] = _background(self._unload(name))
        return unload

    async def _unload(self, name: str) -> None:
        try:
            await self._residents.idle(name)
            answer = await self._server.call(
                "DELETE", f"/models/{name}", within_s=self._limits.unload_s
            )
            self._meter.unloaded(answer.seconds, len(self._residents))
            log.info("unloaded", extra={"target": self._targets.get(name, name)})
            if not (answer.ok or answer.status == _NOT_LOADED):
                log.warning("unload failed", extra={"model": name, "status": answer.status})
            if not self._cached:
                await self._store.remove(name)
        except ResponseTimeout:
            log.warning("unload unanswered", extra={"model": name})
        finally:
            del self._unloads[name]

    def _in_use(self, name: str) -> bool:
        return name in self._residents or name in self._loads or name in self._unloads


def _background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task whose failure may find nobody waiting for it any more."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
