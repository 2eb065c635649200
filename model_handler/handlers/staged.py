"""A transformers pipeline split into its three steps, so that many requests can share the forward.

The pipeline's own `__call__` still decides how inputs and parameters are read and which shape the answer has.
Only the work between the two runs outside of it.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers.pipelines.base import ChunkPipeline


@dataclass(frozen=True, slots=True)
class PipelineCall:
    """One call after the pipeline has parsed it: the items and the parameters of the three steps."""

    items: list[Any]
    preprocess: dict[str, Any]
    forward: dict[str, Any]
    postprocess: dict[str, Any]


class _Read(Exception):
    """Raised to leave `__call__` after the pipeline has parsed the call."""

    def __init__(self, call: PipelineCall) -> None:
        super().__init__()
        self.call = call


class _Stages:
    """Mixin for pipeline classes: replaces the methods to which `__call__` delegates the work."""

    answers: list[Any] | None = None
    """The answers for the items of the next call."""

    def run_single(self, inputs: Any, *steps: dict[str, Any]) -> Any:
        return next(self._take([inputs], *steps))

    def get_iterator(self, inputs: Any, _workers: int, _size: int, *steps: dict[str, Any]) -> Any:
        return self._take(list(inputs), *steps)

    def _take(self, items: list[Any], *steps: dict[str, Any]) -> Iterator[Any]:
        if self.answers is None:
            raise _Read(PipelineCall(items, *steps))
        return iter(self.answers)


@functools.cache
def _staged(kind: Any) -> Any:
    """The staged class of a pipeline class. Cached, because a class per model would stay in memory as a
    reference cycle."""
    return type(f"Staged{kind.__name__}", (_Stages, kind), {})


class Staged:
    """One pipeline and its steps. `pipeline.forward` may be on another thread than these."""

    def __init__(self, kind: Any, **parts: Any) -> None:
        self.pipeline: Any = _staged(kind)(**parts)

    @property
    def whole(self) -> Any:
        """A pipeline of the original class with the same parts, to be called directly."""
        _, kind = type(self.pipeline).__bases__
        pipeline: Any = object.__new__(kind)
        vars(pipeline).update(vars(self.pipeline))
        return pipeline

    @property
    def chunked(self) -> bool:
        """Whether an item may become several rows."""
        return isinstance(self.pipeline, ChunkPipeline)

    def read(self, inputs: Any, parameters: dict[str, Any]) -> PipelineCall:
        """Parse a call without running it. Raises what the pipeline raises for inputs it cannot read."""
        try:
            self.pipeline(inputs, **parameters)
        except _Read as read:
            return read.call
        raise ValueError("the inputs are empty")

    def rows(self, item: Any, parameters: dict[str, Any]) -> Iterator[Any]:
        made = self.pipeline.preprocess(item, **parameters)
        if self.chunked:
            yield from made
        else:
            yield made

    def item_answer(self, outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        if not self.chunked:
            return self.pipeline.postprocess(outputs[0], **parameters)
        for output in outputs:
            output.pop("is_last", None)
        return self.pipeline.postprocess(list(outputs), **parameters)

    def answer(self, inputs: Any, parameters: dict[str, Any], answers: list[Any]) -> Any:
        """Combine the answers of a call's items into the shape that this pipeline returns."""
        self.pipeline.answers = answers
        try:
            return self.pipeline(inputs, **parameters)
        finally:
            self.pipeline.answers = None
