"""Which value of a generation parameter applies: the caller's, else the checkpoint's, else the pipeline's.

transformers decides this inside its pipelines, in places that differ between versions. This module needs only
the model's generation config and the defaults of the pipeline's class, which all versions have.
"""

import functools
from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig


def effective(pipeline: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in effect when this pipeline calls `generate` with the parameters `asked`."""
    chosen = _chosen(pipeline.model) | _hints(pipeline) | dict(asked)
    return _defaults(pipeline, chosen) | chosen


def passed(pipeline: Any, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The part of them that a pipeline has to pass, because `generate` does not read it from the model."""
    given = _hints(pipeline) | dict(asked)
    return _defaults(pipeline, _chosen(pipeline.model) | given) | given


def correct(pipeline: Any, **values: Any) -> None:
    """Replace defaults of the checkpoint. Pipelines of transformers 5.17 keep a copy of the model's."""
    copied = getattr(pipeline, "generation_config", None)
    for config in (pipeline.model.generation_config, copied):
        if config is not None:
            config.update(**values)


def _chosen(model: Any) -> dict[str, Any]:
    """The parameters that the checkpoint's generation_config.json sets."""
    return _set(model.generation_config)


def _hints(pipeline: Any) -> dict[str, Any]:
    """The parameters that config.json holds for the task, for pipelines that read them."""
    return dict(getattr(pipeline, "hints", {}))


def _defaults(pipeline: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults of parameters not in `chosen`. A chosen `max_length` replaces the default `max_new_tokens`."""
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
