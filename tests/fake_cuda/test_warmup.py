"""Warm-up on a GPU: after a load from files, and not after a promotion."""

import logging
from pathlib import Path

import pytest

from model_handler.device.device import CudaDevice
from model_handler.messages import Demote, Loaded, Unloaded
from tests import artifacts
from tests.model_handler.front import ID, Front

pytestmark = pytest.mark.gpu


def test_a_promoted_model_is_warm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log shows each warm-up, since it fails for this model, which needs languages."""
    caplog.set_level(logging.INFO, "model_handler.worker.warmup")
    path = artifacts.mbart(tmp_path)
    front = Front(CudaDevice(0))
    assert isinstance(front.load(path, task="translation"), Loaded)
    assert len(caplog.records) == 1
    assert front.ask(Demote(ID)) == Unloaded(ID, 0)
    assert isinstance(front.load(path, task="translation"), Loaded)
    assert len(caplog.records) == 1
    front.close()
