"""Files registered with the CUDA driver: the GPU copies their page-cache pages without a pinned buffer.

Invariant: at most `limit_nbytes` are registered; the least recently used files are evicted. Registered pages
are locked in main memory.
"""

import ctypes
import logging
import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from model_handler.artifacts.stamps import Stamp, Stamps, opened
from model_handler.errors import ModelLoadFailed

log = logging.getLogger(__name__)
READ_ONLY = 0x08  # driver_types.h, cudaHostRegisterReadOnly


class Driver(Protocol):
    def register(self, address: int, nbytes: int) -> None:
        """Raises RuntimeError on failure."""
        ...

    def unregister(self, address: int) -> None: ...


@dataclass(frozen=True, slots=True)
class CudaDriver:
    device: torch.device

    def register(self, address: int, nbytes: int) -> None:
        """Retry without the read-only flag: devices that share the host's page tables may reject it."""
        with torch.cuda.device(self.device):
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            for flags in (READ_ONLY, 0):
                error = int(runtime.cudaHostRegister(address, nbytes, flags))
                if not error:
                    return
                self._clear_error()
        raise RuntimeError(f"cudaHostRegister: error {error}")

    def unregister(self, address: int) -> None:
        with torch.cuda.device(self.device):
            runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            if int(runtime.cudaHostUnregister(address)):
                self._clear_error()

    def _clear_error(self) -> None:
        """The runtime reports the last error again after this thread's next kernel launch: launch one."""
        with suppress(RuntimeError):
            torch.ones(1, device=self.device)


def on(device: torch.device, limit_nbytes: int) -> "Registrations | None":
    """None if the limit is 0."""
    return Registrations(limit_nbytes, CudaDriver(device)) if limit_nbytes else None


class _Registered:
    """One mapped and registered file. `octets` must not be used after `close`."""

    def __init__(self, descriptor: int, stamp: Stamp, driver: Driver) -> None:
        self.stamp = stamp
        # Shared: pinning a page of a private mapping would copy it
        self._mapping = mmap.mmap(descriptor, stamp.nbytes, mmap.MAP_SHARED, mmap.PROT_READ)
        address = np.frombuffer(self._mapping, np.uint8).ctypes.data
        self._driver, self._address = driver, address
        driver.register(address, stamp.nbytes)
        octets = (ctypes.c_ubyte * stamp.nbytes).from_address(address)
        self.octets = torch.frombuffer(octets, dtype=torch.uint8)

    def close(self) -> None:
        self._driver.unregister(self._address)
        del self.octets
        self._mapping.close()


class Registrations:
    """Call `use` and `add` on the loading thread; any thread may call `drop`."""

    def __init__(self, limit_nbytes: int, driver: Driver) -> None:
        self._limit_nbytes = limit_nbytes
        self._driver = driver
        self._works = True
        self._known: OrderedDict[str, _Registered] = OrderedDict()  # the least recently used first
        self._lock = (
            threading.Lock()
        )  # `use` holds it for its block, so that no file is dropped during a copy

    @property
    def nbytes(self) -> int:
        return sum(each.stamp.nbytes for each in list(self._known.values()))

    @contextmanager
    def use(self, stamps: Stamps) -> Iterator[Mapping[str | torch.Tensor, torch.Tensor]]:
        """The contents of the registered, unchanged files; valid inside the `with` block."""
        with self._lock:
            found: dict[str | torch.Tensor, torch.Tensor] = {}
            for path, stamp in stamps.items():
                known = self._known.get(path)
                if known is not None and known.stamp == stamp:
                    self._known.move_to_end(path)
                    found[path] = known.octets
            yield found

    def add(self, stamps: Stamps, *, evict: bool) -> None:
        """Register files that are not registered yet. `evict`: evict others if there is no room."""
        with self._lock:
            for path, stamp in stamps.items():
                known = self._known.get(path)
                if known is not None and known.stamp != stamp:
                    self._remove(path)
                if path not in self._known and self._make_room(stamp.nbytes, evict):
                    self._register(path, stamp)

    def drop(self, paths: Iterable[str]) -> None:
        with self._lock:
            for path in paths:
                self._remove(path)

    def _make_room(self, nbytes: int, evict: bool) -> bool:
        """Whether there is room now."""
        if not self._works or not 0 < nbytes <= self._limit_nbytes:
            return False
        while evict and self._known and self.nbytes + nbytes > self._limit_nbytes:
            self._remove(next(iter(self._known)))
        return self.nbytes + nbytes <= self._limit_nbytes

    def _register(self, path: str, stamp: Stamp) -> None:
        try:
            with opened({path: stamp}) as files:
                self._known[path] = _Registered(files[path], stamp, self._driver)
        except ModelLoadFailed:
            self._remove(path)  # the file changed during registration
        except (OSError, RuntimeError) as error:
            self._works = False  # it would fail again: do not retry
            log.warning(
                "page cache registration disabled", extra={"file": path, "reason": str(error)}
            )

    def _remove(self, path: str) -> None:
        known = self._known.pop(path, None)
        if known is not None:
            known.close()
