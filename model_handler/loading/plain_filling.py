"""A faster from_pretrained for checkpoints whose tensors have the names and shapes of the model's own.

transformers converts checkpoints of many layouts, for which it makes several objects for each tensor, and
computes random initial values although a model under construction has no memory. For most checkpoints
neither is needed. All others are left to transformers, as are tensors that the files lack.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import modeling_utils

from model_handler.artifacts import weights
from model_handler.transfer import mapped_weights

_LOAD = "convert_and_load_state_dict_in_model"
_EXTRA = torch.nn.modules.module._EXTRA_STATE_KEY_SUFFIX
_INITIAL_VALUES = (
    "constant_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "trunc_normal_", "uniform_",
    "xavier_normal_", "xavier_uniform_", "zeros_",
)  # fmt: skip
Conversion = Callable[..., Any]


@contextmanager
def preferred(files: Sequence[Path]) -> Iterator[None]:
    """Let from_pretrained fill models from `files` directly, where that gives the same result.

    Only one thread of the process may be in such a block, because it patches transformers and torch.nn.init.
    """
    convert: Conversion | None = getattr(modeling_utils, _LOAD, None)
    initial = {name: getattr(torch.nn.init, name) for name in _INITIAL_VALUES}
    for name, function in initial.items():
        setattr(torch.nn.init, name, _unless_meta(function))
    if convert is not None and all(file.suffix == ".safetensors" for file in files):
        setattr(modeling_utils, _LOAD, _filling(convert, files))
    try:
        yield
    finally:
        if convert is not None:
            setattr(modeling_utils, _LOAD, convert)
        for name, function in initial.items():
            setattr(torch.nn.init, name, function)


def _unless_meta(initialize: Callable[..., Any]) -> Callable[..., Any]:
    def called(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return tensor if tensor.is_meta else initialize(tensor, *args, **kwargs)

    return called


def _filling(convert: Conversion, files: Sequence[Path]) -> Conversion:
    def load(model: Any, state_dict: Any, load_config: Any, *args: Any, **kwargs: Any) -> Any:
        own = model.state_dict(keep_vars=True)
        shapes = {
            name: each["shape"] for file in files for name, each in weights.header(file).items()
        }
        if state_dict.keys() != shapes.keys() or not _is_plain(model, shapes, load_config, own):
            return convert(model, state_dict, load_config, *args, **kwargs)
        result = convert(model, {}, load_config, *args, **kwargs)
        _fill(model, files, own)
        result[0].missing_keys.difference_update(shapes)
        return result

    return load


def _is_plain(
    model: Any, shapes: Mapping[str, Sequence[int]], load_config: Any, own: Mapping[str, Any]
) -> bool:
    """Whether transformers would give each tensor of the files, unchanged, to the parameter of its name.

    `shapes`: of the files' tensors. `own`: the model's tensors.
    """
    special = (load_config.hf_quantizer, load_config.device_map, load_config.dtype_plan)
    mapping, prefix = load_config.weight_mapping or (), model.base_model_prefix
    return not any(special) and all(
        name in own
        and own[name].is_meta
        and type(own[name]) in (torch.Tensor, torch.nn.Parameter)
        and [*own[name].shape] == shape
        and not _is_renamed(name, mapping, prefix, own)
        for name, shape in shapes.items()
    )


def _is_renamed(name: str, mapping: Any, prefix: str, own: Mapping[str, Any]) -> bool:
    """Whether transformers might take the tensor for one of another name."""
    return (
        (name.startswith(prefix) and name[len(prefix) + 1 :] in own)
        or f"{prefix}.{name}" in own
        or name.endswith(_EXTRA)
        or any(entry.compiled_sources.search(name) for entry in mapping)
    )


def _fill(model: Any, files: Sequence[Path], own: Mapping[str, Any]) -> None:
    modules: dict[str, Any] = {}
    for name, tensor in (each for file in files for each in mapped_weights.tensors(file, own)):
        path, _, last = name.rpartition(".")
        if path not in modules:
            modules[path] = model.get_submodule(path)
        value: Any = tensor.to(own[name].dtype)
        if last in modules[path]._parameters:
            value = torch.nn.Parameter(value, value.is_floating_point())
            modules[path]._parameters[last] = value
        else:
            modules[path]._buffers[last] = value
        value._is_hf_initialized = True  # otherwise transformers computes initial values for it
