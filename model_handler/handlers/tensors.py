"""Models from arrays to arrays: requests are concatenated into one batch if the model allows it."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_handler.artifacts.stamps import Stamps
from model_handler.errors import InferenceFailed
from model_handler.handlers import Codec, Payload, Prepared, Unit
from model_handler.options import RequestLimits

Array = NDArray[Any]
Arrays = dict[str, Array]


@dataclass(frozen=True, slots=True)
class ArrayAnswer:
    """Arrays by name. `by_row`: encode as one object per row."""

    outputs: Mapping[str, Array]
    by_row: bool


@dataclass(frozen=True, slots=True)
class ArrayCall:
    """One call of a model: checked inputs, and the method to call if it has several."""

    inputs: Arrays
    method: str = ""


class LimitedCodec(Codec, Protocol):
    def within(self, limits: RequestLimits) -> "LimitedCodec":
        """The same codec with other limits."""
        ...


class ArrayModel(Protocol):
    """The interface to a format's runtime. `read` and `run` may be called on different threads."""

    @property
    def native(self) -> object:
        """The runtime's object, which holds the memory of the model."""
        ...

    @property
    def nbytes(self) -> int: ...

    @property
    def joins(self) -> bool:
        """Whether each row of a batch gets the answer that it would get alone."""
        ...

    @property
    def by_row(self) -> bool: ...

    def read(self, payload: Payload) -> ArrayCall:
        """Raises InvalidRequest, naming the expected and the actual input."""
        ...

    def run(self, call: ArrayCall, deadline: float) -> Arrays:
        """Raises InvalidRequest for unfit inputs that only the runtime can detect.

        `deadline` is on time.monotonic's clock. A runtime that can be stopped then raises DeadlineExceeded.
        """
        ...


class ArrayHandler:
    """Handler of one ArrayModel, which it owns."""

    def __init__(self, model: ArrayModel, codec: LimitedCodec) -> None:
        self.codec = codec
        self.mapped: Stamps = {}
        self._model: ArrayModel | None = model
        self._nbytes = model.nbytes

    @property
    def nbytes(self) -> int:
        return self._nbytes

    @property
    def model(self) -> ArrayModel:
        assert self._model is not None, "released"
        return self._model

    def release(self) -> None:
        """Drop the model. Nothing else may be called afterwards."""
        self._model = None

    def preprocess(self, payload: Payload) -> Prepared:
        call = self.model.read(payload)
        return Prepared([Unit(call, 1, self._group(call))])

    def forward(self, units: Sequence[Unit], deadline: float) -> list[Any]:
        calls: list[ArrayCall] = [unit.features for unit in units]
        if len(calls) == 1:
            return [self.model.run(calls[0], deadline)]
        counts = [_rows(call.inputs) for call in calls]
        names = calls[0].inputs
        joined = {name: np.concatenate([call.inputs[name] for call in calls]) for name in names}
        return _parts(self.model.run(ArrayCall(joined, calls[0].method), deadline), counts)

    def postprocess(self, prepared: Prepared, outputs: list[Any]) -> ArrayAnswer:
        return ArrayAnswer(outputs[0], self.model.by_row)

    def _group(self, call: ArrayCall) -> Hashable:
        if not self.model.joins or _rows(call.inputs) == 0:
            return object()
        shapes = ((name, each.dtype.str, each.shape[1:]) for name, each in call.inputs.items())
        return call.method, tuple(sorted(shapes))


def _rows(inputs: Arrays) -> int:
    """The leading dimension that all inputs share; 0 if they share none."""
    counts = {each.shape[0] if each.ndim else 0 for each in inputs.values()}
    return counts.pop() if len(counts) == 1 else 0


def _parts(outputs: Arrays, counts: Sequence[int]) -> list[Arrays]:
    """The output rows of each call. Raises InferenceFailed if the model does not answer row by row."""
    if any(each.ndim == 0 or each.shape[0] != sum(counts) for each in outputs.values()):
        raise InferenceFailed("the model does not answer row by row")
    ends = np.cumsum(counts).tolist()
    return [
        {name: each[end - count : end] for name, each in outputs.items()}
        for count, end in zip(counts, ends, strict=True)
    ]
