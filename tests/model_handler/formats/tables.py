"""Training data, loading and requests of the format tests."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_handler.artifacts import conventions
from model_handler.artifacts.conventions import Convention
from model_handler.device.device import CpuDevice
from model_handler.errors import ModelLoadFailed
from model_handler.handlers.tensors import ArrayHandler
from model_handler.loading.formats import FormatLoader
from model_handler.messages import InferenceRequest, InferenceResponse, Refusal
from tests.model_handler.harness import run

ROWS = np.random.default_rng(1).normal(size=(120, 3)).astype(np.float32)
TARGET = ROWS[:, 0] * 2 + np.abs(ROWS[:, 1])
COLORS = np.array(["blue", "green", "red"])[np.digitize(TARGET, [0.0, 1.5])]


@contextmanager
def opened(path: Path, convention: Convention | None = None) -> Iterator[ArrayHandler]:
    """A loaded handler. Checks at the end of the block that the unload frees the model."""
    owner = FormatLoader(CpuDevice())
    handler = owner.load(path, convention or conventions.detect(path))
    yield handler
    assert owner.unload(handler) == 0


def failure(path: Path, convention: Convention) -> str:
    with pytest.raises(ModelLoadFailed) as caught:
        FormatLoader(CpuDevice()).load(path, convention)
    message = str(caught.value)
    assert "\n" not in message
    return message


def asked(
    body: bytes | str, content_type: str | None, accept: str | None = None
) -> InferenceRequest:
    raw = body.encode() if isinstance(body, str) else body
    return InferenceRequest(raw, content_type, accept)


def answered(handler: ArrayHandler, *documents: Any) -> list[InferenceResponse]:
    results = run(handler, *documents)
    assert [each for each in results if isinstance(each, Refusal)] == []
    return [each for each in results if isinstance(each, InferenceResponse)]


def csv_of(rows: Any) -> str:
    return "\n".join(",".join(map(str, row)) for row in rows.tolist())


def npy_of(values: Any, *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=allow_pickle)
    return stream.getvalue()
