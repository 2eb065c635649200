"""Drives a container in MultiModel mode as SageMaker does.

A model is loaded on its first invocation. Status 507 causes the unload of the least recently used model,
409 on a load means that the model is loaded already, and 404 on an invocation causes another load.
One load runs at a time per model, one eviction per container.
"""

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Mapping
from pathlib import PurePosixPath
from typing import Any

from emulator.containers.artifact_cache import ArtifactCache
from emulator.containers.client import ContainerClient, ContainerResponse, ResponseTimeout
from emulator.containers.model_usage import ModelUsage
from emulator.containers.runner import ContainerLaunch
from emulator.containers.s3 import S3Downloader, S3Location
from emulator.invocation_errors import ContainerErrors, invalid, not_ready
from emulator.limits import PlatformLimits
from emulator.metrics import VariantMetrics

TARGET_MODEL = "x-amzn-sagemaker-target-model"
_NO_MEMORY = 507
_ALREADY_LOADED = 409
_NOT_LOADED = 404

log = logging.getLogger(__name__)


class MultiModelContainer:
    """`models` is the directory `launch.models` as the container sees it."""

    def __init__(
        self,
        launch: ContainerLaunch,
        client: ContainerClient,
        models: PurePosixPath,
        downloader: S3Downloader,
        limits: PlatformLimits,
        metrics: VariantMetrics,
        errors: ContainerErrors,
    ) -> None:
        assert launch.spec.model_data_url is not None
        self._prefix = S3Location.parse(launch.spec.model_data_url)
        self._keeps_models = launch.spec.cache_models
        self._client = client
        self._models = models
        self._limits = limits
        self._metrics = metrics
        self._errors = errors
        self._artifacts = ArtifactCache(
            downloader, launch.models, limits.volume_nbytes, in_use=self._in_use, free=self._free
        )
        self._loaded = ModelUsage()
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._load_requests: set[asyncio.Task[ContainerResponse]] = set()
        self._unloads: dict[str, asyncio.Task[None]] = {}
        self._eviction = asyncio.Lock()
        self._targets: dict[str, str] = {}  # TargetModel by model name, for the log

    def holds(self, target: str | None) -> bool:
        """Whether the model is loaded or being loaded."""
        if target is None:
            return False
        name = self._prefix.below(target).model_name
        return name in self._loaded or name in self._loads

    async def invoke(
        self, target: str | None, body: bytes, headers: Mapping[str, str]
    ) -> ContainerResponse:
        """The container's final response. Raises InvocationFailed and ConnectionBroken."""
        assert target is not None
        location = self._prefix.below(target)
        self._targets[location.model_name] = target
        if ".." in location.key.split("/"):
            raise invalid(location.download_error())
        headers = {**headers, TARGET_MODEL: target}
        self._metrics.cache_hit(location.model_name in self._loaded)
        reloaded = False
        while True:
            response = await self._attempt(location, body, headers)
            if response.status == _NO_MEMORY and await self._evict(keep=location.model_name):
                continue
            if response.status == _NOT_LOADED and not reloaded:
                reloaded = True
                self._loaded.drop(location.model_name)
                continue
            return response

    async def close(self) -> None:
        """Cancels all background work. The caller stops the container itself."""
        tasks = [*self._loads.values(), *self._unloads.values(), *self._load_requests]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _attempt(
        self, location: S3Location, body: bytes, headers: Mapping[str, str]
    ) -> ContainerResponse:
        await self._acquire(location)
        try:
            return await self._client.call(
                "POST",
                f"/models/{location.model_name}/invoke",
                timeout_s=self._limits.invoke_s,
                body=body,
                headers=headers,
            )
        except ResponseTimeout:
            raise self._errors.timed_out() from None
        finally:
            self._release(location)

    async def _acquire(self, location: S3Location) -> None:
        """Returns with the model loaded and leased. The caller must release the lease."""
        while (unload := self._unloads.get(location.model_name)) is not None:
            await asyncio.wait({unload})
        self._loaded.lease(location.model_name)
        if location.model_name in self._loaded:
            return
        began = time.perf_counter()
        try:
            await self._wait_for_load(location)
        except BaseException:  # cancellation included: the lease must end with the request
            self._release(location)
            raise
        finally:
            self._metrics.loading_wait(time.perf_counter() - began)

    def _release(self, location: S3Location) -> None:
        self._loaded.release(location.model_name)
        idle = location.model_name in self._loaded and not self._loaded.leased(location.model_name)
        if idle and not self._keeps_models:
            self._begin_unload(location.model_name)

    async def _wait_for_load(self, location: S3Location) -> None:
        """Waits for the load up to the caller's time limit; the load itself continues. Raises
        InvocationFailed."""
        load = self._loads.get(location.model_name)
        if load is None:
            load = self._loads[location.model_name] = _background(self._load(location))
        done, _ = await asyncio.wait({load}, timeout=self._limits.load_wait_s)
        if not done:
            raise not_ready(location.target)
        load.result()

    async def _load(self, location: S3Location) -> None:
        try:
            async with asyncio.timeout(self._limits.load_s):
                artifact = await self._artifacts.fetch(location)
                if artifact.download_s is not None:
                    self._metrics.downloading(artifact.download_s)
                response = await self._load_with_evictions(location)
        except (TimeoutError, ResponseTimeout):
            raise self._errors.timed_out() from None
        finally:
            del self._loads[location.model_name]
        if not (response.ok or response.status == _ALREADY_LOADED):
            raise self._errors.model_error(response.status, response.body)
        self._loaded.add(location.model_name)
        self._metrics.loaded(len(self._loaded))
        log.info("loaded", extra={"target": location.target, "ms": round(response.seconds * 1e3)})

    async def _load_with_evictions(self, location: S3Location) -> ContainerResponse:
        """The final response to the load, after as many evictions as necessary or possible."""
        response = await self._request_load(location)
        if response.status != _NO_MEMORY:
            return response
        had_to_wait = self._eviction.locked()
        async with self._eviction:
            if had_to_wait:
                response = await self._request_load(location)
            while response.status == _NO_MEMORY and await self._unload_one(location.model_name):
                response = await self._request_load(location)
        return response

    async def _request_load(self, location: S3Location) -> ContainerResponse:
        directory = self._models / location.model_name / "model"
        document = {"model_name": location.model_name, "url": str(directory)}
        json_type = "application/json"
        headers = {"content-type": json_type, "accept": json_type, TARGET_MODEL: location.target}
        request = asyncio.create_task(
            self._client.call(
                "POST",
                "/models",
                timeout_s=self._limits.load_s,
                body=json.dumps(document).encode(),
                headers=headers,
            )
        )
        self._load_requests.add(request)
        request.add_done_callback(self._load_requests.discard)
        response = await request
        if response.ok:
            self._metrics.loading(response.seconds)
        else:
            log.info("load refused", extra={"target": location.target, "status": response.status})
        return response

    async def _evict(self, keep: str) -> bool:
        async with self._eviction:
            return await self._unload_one(keep)

    async def _free(self) -> bool:
        """Unloads a model, so that the artifact cache can remove its files."""
        async with self._eviction:
            return await self._unload_one()

    async def _unload_one(self, keep: str | None = None) -> bool:
        """Unloads a model, or waits for a load or unload in progress. False: no model can be unloaded."""
        name = self._loaded.least_recently_used(keep)
        if name is not None:
            unload = self._begin_unload(name)
            await asyncio.wait({unload})
            unload.result()
            return True
        pending: set[asyncio.Task[Any]] = {*self._load_requests, *self._unloads.values()}
        if pending:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        return bool(pending)

    def _begin_unload(self, name: str) -> asyncio.Task[None]:
        self._loaded.drop(name)
        unload = self._unloads[name] = _background(self._unload(name))
        return unload

    async def _unload(self, name: str) -> None:
        try:
            await self._loaded.wait_until_idle(name)
            response = await self._client.call(
                "DELETE", f"/models/{name}", timeout_s=self._limits.unload_s
            )
            self._metrics.unloaded(response.seconds, len(self._loaded))
            log.info("unloaded", extra={"target": self._targets.get(name, name)})
            if not (response.ok or response.status == _NOT_LOADED):
                log.warning("unload failed", extra={"model": name, "status": response.status})
            if not self._keeps_models:
                await self._artifacts.remove(name)
        except ResponseTimeout:
            log.warning("unload timed out", extra={"model": name})
        finally:
            del self._unloads[name]

    def _in_use(self, name: str) -> bool:
        return name in self._loaded or name in self._loads or name in self._unloads


def _background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task whose exception is retrieved even when no caller waits for it any more."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
