"""Whose value of a generation parameter counts: the caller's, then the checkpoint's, then the pipeline's.

transformers decides this inside its pipelines, in other places from one version to the next. Here it follows
from the model's generation config and the defaults of the pipeline's class, which all versions have.
"""

import functools
from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig


def effective(pipeline: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What `generate` goes by when this pipeline calls it with the parameters `asked`."""
    chosen = _chosen(pipeline.model) | _hints(pipeline) | dict(asked)
    return _defaults(pipeline, chosen) | chosen


def passed(pipeline: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The part of it that `generate` does not read from the model: what a pipeline gives to it."""
    given = _hints(pipeline) | dict(asked)
    return _defaults(pipeline, _chosen(pipeline.model) | given) | given


def _chosen(model: Any) -> dict[str, Any]:
    """What the checkpoint's generation_config.json sets."""
    return _set(model.generation_config)


def _hints(pipeline: Any) -> dict[str, Any]:
    """What its config.json keeps for the task, of pipelines that read it."""
    return dict(getattr(pipeline, "hints", {}))


def _defaults(pipeline: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """For parameters that nobody chose. A total length that somebody chose limits new tokens too."""
    kind: Any = type(pipeline)
    values = dict(_of_class(kind))
    pad = getattr(pipeline.tokenizer, "pad_token_id", None)
    if pad is not None:
        values["pad_token_id"] = pad
    if "max_length" in chosen:
        values.pop("max_new_tokens", None)
    return {name: value for name, value in values.items() if name not in chosen}


@functools.cache
def _of_class(kind: Any) -> dict[str, Any]:
    config: GenerationConfig | None = getattr(kind, "_default_generation_config", None)
    return {} if config is None else _set(config)


def _set(config: Any) -> dict[str, Any]:
    values: dict[str, Any] = config.to_diff_dict()
    values.pop("transformers_version", None)
    return values
