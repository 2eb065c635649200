"""Registered files: eviction, replacement, driver failures, and uploads that copy from them directly."""

import logging
from pathlib import Path

import pytest
import torch

from model_handler.artifacts.stamps import stamped
from model_handler.device.device import CpuDevice
from model_handler.loading.loader import TorchLoader
from model_handler.sharing.turnstile import Turnstile
from model_handler.transfer.registrations import Registrations
from model_handler.transfer.upload import Uploader
from tests.model_handler.harness import answers
from tests.model_handler.tensors_alive import TEXT

NBYTES = 10_000


class FakeDriver:
    """Records what is registered. `refuses`: every further registration fails."""

    def __init__(self) -> None:
        self.registered: dict[int, int] = {}
        self.calls = 0
        self.refuses = False

    def register(self, address: int, nbytes: int) -> None:
        self.calls += 1
        if self.refuses:
            raise RuntimeError("cudaHostRegister: error 801")
        self.registered[address] = nbytes

    def unregister(self, address: int) -> None:
        del self.registered[address]


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in "abc"]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * NBYTES)
    return paths


def registered(registrations: Registrations, *files: Path) -> list[str]:
    """The names of the registered files; also checks their content."""
    with registrations.use(stamped(files)) as found:
        for path, octets in found.items():
            assert bytes(octets.tolist()) == Path(str(path)).read_bytes()
        return [Path(str(path)).name for path in found]


def test_the_least_recently_used_file_is_evicted(driver: FakeDriver, files: list[Path]) -> None:
    registrations = Registrations(2 * NBYTES + 1, driver)
    for file in files[:2]:
        registrations.add(stamped([file]), evict=True)
    assert registered(registrations, files[0]) == ["a"]
    registrations.add(stamped(files[2:]), evict=False)
    assert registered(registrations, *files) == ["a", "b"]
    assert registered(registrations, files[0]) == ["a"]
    registrations.add(stamped(files[2:]), evict=True)
    assert registered(registrations, *files) == ["a", "c"]
    assert list(driver.registered.values()) == [NBYTES, NBYTES]
    assert registrations.nbytes == 2 * NBYTES
    registrations.drop(stamped(files))
    assert not driver.registered


def test_a_file_larger_than_the_limit_evicts_nothing(driver: FakeDriver, files: list[Path]) -> None:
    registrations = Registrations(NBYTES, driver)
    registrations.add(stamped(files[:1]), evict=True)
    files[1].write_bytes(bytes(NBYTES + 1))
    registrations.add(stamped(files[1:2]), evict=True)
    assert registered(registrations, *files) == ["a"]


def test_a_replaced_file_is_registered_again(driver: FakeDriver, files: list[Path]) -> None:
    registrations = Registrations(3 * NBYTES, driver)
    registrations.add(stamped(files[:1]), evict=True)
    files[1].rename(files[0])
    assert registered(registrations, files[0]) == []
    registrations.add(stamped(files[:1]), evict=True)
    assert registered(registrations, files[0]) == ["a"]
    assert len(driver.registered) == 1


def test_registration_is_disabled_after_a_driver_error(
    driver: FakeDriver, files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    driver.refuses = True
    registrations = Registrations(3 * NBYTES, driver)
    for file in files:
        registrations.add(stamped([file]), evict=True)
        assert registered(registrations, file) == []
    assert driver.calls == 1
    (record,) = caplog.records
    assert "801" in str(vars(record)["reason"])


def test_models_are_copied_from_registered_files(driver: FakeDriver, classifier: Path) -> None:
    """On load and promotion, in the stored dtype and in another; an unload drops the registration."""
    uploader = Uploader(
        torch.device("cpu"), chunk_nbytes=10_000, registrations=Registrations(1 << 30, driver)
    )
    owner = TorchLoader(CpuDevice(), Turnstile(), uploader=uploader)
    for dtype in ("auto", "bfloat16"):
        handler = owner.load(classifier, "text-classification", dtype)
        assert list(driver.registered.values()) == [
            (classifier / "model.safetensors").stat().st_size
        ]
        expected = answers(handler, TEXT)
        assert owner.demote(handler)
        assert owner.promote(handler)
        assert answers(handler, TEXT) == expected
        assert owner.unload(handler) == 0
        assert not driver.registered


def test_unloading_a_demoted_model_drops_its_registrations(
    driver: FakeDriver, classifier: Path
) -> None:
    uploader = Uploader(torch.device("cpu"), registrations=Registrations(1 << 30, driver))
    owner = TorchLoader(CpuDevice(), Turnstile(), uploader=uploader)
    handler = owner.load(classifier, "text-classification")
    assert owner.demote(handler)
    assert driver.registered
    assert owner.unload(handler) == 0
    assert not driver.registered
