"""Numbers in serving.properties: within their range, or refused with the range."""

from pathlib import Path

import pytest

from model_handler.artifacts import properties
from model_handler.artifacts.artifact import Artifact
from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Properties
from model_handler.engine.admission import queue_bounds
from model_handler.errors import ModelLoadFailed
from model_handler.options import EngineOptions

HIGHEST = {
    "option.concurrency": 1024,
    "option.scheduling_weight": 1000,
    "batch_size": 4096,
    "max_batch_delay": 30_000,
    "job_queue_size": 1_000_000,
    "required_memory_mb": 1 << 24,
    "gpu.required_memory_mb": 1 << 24,
}


def read(directory: Path, key: str, value: str) -> Properties:
    (directory / "serving.properties").write_text(f"{key}={value}\n")
    return properties.read(directory)


@pytest.mark.parametrize("key", HIGHEST)
def test_the_range_of_each_number(tmp_path: Path, key: str) -> None:
    for allowed in ("1", str(HIGHEST[key])):
        assert read(tmp_path, key, allowed) != Properties()
    over = str(HIGHEST[key] + 1)
    strange = ["0", "-1", "1.5", "1e3", "\u0663", "", "0x10", "1_0", "inf"]
    for value in [over, *strange, "1" + "0" * 400, "9" * 60_000]:
        with pytest.raises(ModelLoadFailed, match=f"from 1 to {HIGHEST[key]}$") as refused:
            read(tmp_path, key, value)
        assert len(str(refused.value)) < 200


def test_a_long_word_is_not_quoted_whole(tmp_path: Path) -> None:
    for key in ("option.dtype", "option.isolation", "option.convention"):
        with pytest.raises(ModelLoadFailed, match="must be one of") as refused:
            read(tmp_path, key, "x" * 60_000)
        assert len(str(refused.value)) < 300


def test_a_batch_does_not_wait_for_as_long_as_its_requests_may_take() -> None:
    own = Properties(max_batch_delay_ms=30_000)
    artifact = Artifact(Path("/x"), Convention.HUGGING_FACE, "", "auto", 1, own)
    assert queue_bounds(artifact, EngineOptions(request_timeout_s=2.0)).delay_s == 1.0
    assert queue_bounds(artifact, EngineOptions(request_timeout_s=600.0)).delay_s == 30.0
