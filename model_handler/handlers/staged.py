"""A transformers pipeline taken apart at its three steps, so that many requests can share the middle one.

The pipeline's own `__call__` still decides how inputs and parameters are read and what shape the
answer has; only the work between the two is done elsewhere.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers.pipelines.base import ChunkPipeline


@dataclass(frozen=True, slots=True)
class PipelineCall:
    """One call as the pipeline understood it: its items and the parameters of the three steps."""

    items: list[Any]
    preprocess: dict[str, Any]
    forward: dict[str, Any]
    postprocess: dict[str, Any]


class _Read(Exception):
    """Leaves `__call__` once the pipeline has said what it would do."""

    def __init__(self, call: PipelineCall) -> None:
        super().__init__()
        self.call = call


class _Stages:
    """Mixed in before a pipeline class: takes the place where `__call__` hands over to the work."""

    answers: list[Any] | None = None
    """Of the items of the call that is made next."""

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
    """One class per pipeline class: classes are cyclic garbage, and models come and go."""
    return type(f"Staged{kind.__name__}", (_Stages, kind), {})


class Staged:
    """One pipeline and its steps. `read`, `rows` and `answer` belong to one thread, `run` to another."""

    def __init__(self, kind: Any, **parts: Any) -> None:
        self.pipeline: Any = _staged(kind)(**parts)

    @property
    def whole(self) -> Any:
        """The pipeline itself, with the same parts: for whoever calls it in one piece."""
        _, kind = type(self.pipeline).__bases__
        pipeline: Any = object.__new__(kind)
        vars(pipeline).update(vars(self.pipeline))
        return pipeline

    @property
    def chunked(self) -> bool:
        """An item may become several rows."""
        return isinstance(self.pipeline, ChunkPipeline)

    def read(self, inputs: Any, parameters: dict[str, Any]) -> PipelineCall:
        """What this call would do. Raises whatever the pipeline raises at inputs it cannot read."""
        try:
            self.pipeline(inputs, **parameters)
        except _Read as read:
            return read.call
        raise ValueError("there is nothing in the inputs")

    def rows(self, item: Any, parameters: dict[str, Any]) -> list[Any]:
        made = self.pipeline.preprocess(item, **parameters)
        return list(made) if self.chunked else [made]

    def run(self, batch: dict[str, Any], parameters: dict[str, Any]) -> Any:
        return self.pipeline.forward(batch, **parameters)

    def item_answer(self, outputs: Sequence[Any], parameters: dict[str, Any]) -> Any:
        if not self.chunked:
            return self.pipeline.postprocess(outputs[0], **parameters)
        for output in outputs:
            output.pop("is_last", None)
        return self.pipeline.postprocess(list(outputs), **parameters)

    def answer(self, inputs: Any, parameters: dict[str, Any], answers: list[Any]) -> Any:
        """The answers of a call's items in the shape this pipeline gives them."""
        self.pipeline.answers = answers
        try:
            return self.pipeline(inputs, **parameters)
        finally:
            self.pipeline.answers = None
