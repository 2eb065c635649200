"""Cache of module structures: a further model of a known structure needs only a copy and its weights.

Building modules is most of the time of a load, and fine-tuned models share their structure. Invariants: a
cached structure holds no weights, so that computing with it by mistake raises an error instead of giving a
wrong answer. A structure is cached only if all tensors of its model, except computed ones, are in the weight
files under the model's names.
"""

import copy
import hashlib
import json
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import torch

from model_handler.artifacts import documents, weights
from model_handler.transfer import file_pages, mapped_weights

# Keys of config.json that do not affect the structure
_LABELS = ("id2label", "label2id")
_UNSTRUCTURAL = (*_LABELS, "_name_or_path", "transformers_version")
MOST = 64  # structures; their modules are outside the ledger
_REGISTRIES = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True, slots=True)
class Structure:
    """`module`: without weights. `dtypes`: for each tensor in the weight files, its dtype in the module."""

    module: Any
    dtypes: dict[str, torch.dtype]


class StructureCache:
    """The `most` structures used last, by key. Owned by one loading thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[str, Structure] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def build(self, key: str, files: list[Path], config: Any) -> Any | None:
        """A model with the files' weights and the config's labels; None if the structure is not cached."""
        structure = self._known.get(key)
        if structure is None:
            return None
        self._known.move_to_end(key)
        model = _copied(structure.module, _own_tensors(structure.module, {}))
        model.config = copy.copy(model.config)
        for name in _LABELS:
            setattr(model.config, name, getattr(config, name))
        if getattr(model, "generation_config", None) is not None:
            model.generation_config = copy.deepcopy(model.generation_config)
        _fill(model, structure.dtypes, files)
        return model

    def learn(self, key: str, model: Any, files: list[Path]) -> bool:
        """Cache the model's structure if the files hold all its tensors, except computed ones, by name.

        Returns whether it is cached.
        """
        state = model.state_dict(keep_vars=True)
        stored = {name for file in files for name in weights.header(file)} & state.keys()
        held = {id(tensor) for name, tensor in state.items() if not _computed(model, name)}
        if held - {id(state[name]) for name in stored} or not _self_contained(model):
            return False
        if not _as_stored(state, files, stored):
            return False
        bare = {id(state[name]): _bare(state[name]) for name in stored}
        dtypes = {name: state[name].dtype for name in stored}
        self._known[key] = Structure(_copied(model, bare | _own_tensors(model, bare)), dtypes)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return True


def key(auto: type, config: Path, files: list[Path], dtype: torch.dtype) -> str:
    """Equal for models of the same structure. `config`: the artifact's config.json."""
    document = documents.read(config)
    structure = {name: value for name, value in document.items() if name not in _UNSTRUCTURAL}
    shapes = [
        (file.name, name, tensor["dtype"], tensor["shape"])
        for file in files
        for name, tensor in sorted(weights.header(file).items())
    ]
    generation = config.with_name("generation_config.json")
    how = generation.read_text("utf-8", "replace") if generation.is_file() else ""
    text = json.dumps([auto.__name__, str(dtype), structure, shapes, how], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# ---- structure ----


def _copied(module: Any, memo: dict[int, Any]) -> Any:
    """A copy of `module` with the same tensors, or their replacements in `memo`, by id."""
    if id(module) in memo:
        return memo[id(module)]
    twin = memo[id(module)] = object.__new__(type(module))
    vars(twin).update(vars(module))
    vars(twin)["_parameters"] = {
        name: memo.get(id(tensor), tensor) for name, tensor in module._parameters.items()
    }
    vars(twin)["_buffers"] = {
        name: memo.get(id(tensor), tensor) for name, tensor in module._buffers.items()
    }
    vars(twin)["_modules"] = {
        name: None if child is None else _copied(child, memo)
        for name, child in module._modules.items()
    }
    return twin


def _own_tensors(model: Any, bare: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Copies of tensors that no file holds: masks, positions, frequencies computed from the configuration."""
    tensors = [*model.parameters(), *model.buffers()]
    computed = [tensor for tensor in tensors if id(tensor) not in bare and not tensor.is_meta]
    return {id(tensor): _twin(tensor) for tensor in computed}


def _twin(tensor: torch.Tensor) -> torch.Tensor:
    parameter = isinstance(tensor, torch.nn.Parameter)
    return torch.nn.Parameter(tensor.detach().clone(), False) if parameter else tensor.clone()


def _computed(model: Any, name: str) -> bool:
    """Whether the tensor is computed from the configuration: its class excludes it from saved files."""
    patterns = getattr(model, "_keys_to_ignore_on_save", None) or ()
    return any(re.search(pattern, name) for pattern in patterns)


def _bare(tensor: torch.Tensor) -> torch.Tensor:
    """A meta tensor, which has no content, in place of `tensor`."""
    empty = torch.empty_like(tensor, device="meta")
    return torch.nn.Parameter(empty, False) if isinstance(tensor, torch.nn.Parameter) else empty


def _self_contained(model: Any) -> bool:
    """Whether modules refer to tensors and modules only in their registries: nothing else is copied."""
    return not any(
        _made_for_one(type(module))
        or any(_refers(value) for name, value in vars(module).items() if name not in _REGISTRIES)
        for module in model.modules()
    )


def _made_for_one(kind: type) -> bool:
    """Whether the class was made at run time, as parametrizations do: it may refer to one module."""
    scope: Any = sys.modules.get(kind.__module__)
    return getattr(scope, kind.__name__, None) is not kind


def _refers(value: object, depth: int = 3) -> bool:
    """Whether the value may refer to a tensor, a module, or a method of one."""
    if isinstance(value, torch.Tensor | torch.nn.Module):
        return True
    if isinstance(value, MethodType):
        return isinstance(value.__self__, torch.nn.Module)
    if isinstance(value, FunctionType):
        return value.__closure__ is not None
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | set):
        return depth == 0 or any(_refers(each, depth - 1) for each in value)
    return False


# ---- weights ----


def _as_stored(state: dict[str, torch.Tensor], files: list[Path], names: set[str]) -> bool:
    """Whether the tensors equal those of the files. Unmodified views are equal without reading them."""
    found = dict(_read(files, names))
    unread = file_pages.FilePages(files)
    return all(
        unread.same(state[name], tensor) or torch.equal(tensor.to(state[name]), state[name])
        for name, tensor in found.items()
    )


def _read(files: list[Path], names: set[str]) -> Iterator[tuple[str, torch.Tensor]]:
    for file in files:
        yield from mapped_weights.tensors(file, names)


def _fill(model: Any, dtypes: dict[str, torch.dtype], files: list[Path]) -> None:
    """Replace the bare tensors by those of the files; tied tensors stay tied."""
    filled: dict[int, torch.Tensor] = {}
    places = {name: _place(model, name) for name in dtypes}
    for name, tensor in _read(files, set(dtypes)):
        registry, last = places[name]
        bare = registry[last]
        tensor = tensor.to(dtypes[name])
        if isinstance(bare, torch.nn.Parameter):
            tensor = torch.nn.Parameter(tensor, False)
        filled[id(bare)] = tensor
    _replace(model, lambda bare: filled.get(id(bare), bare))


def _place(model: Any, name: str) -> tuple[dict[str, Any], str]:
    """The registry that holds the tensor `name`, and its name there."""
    path, _, last = name.rpartition(".")
    module = model.get_submodule(path)
    registry = module._parameters if last in module._parameters else module._buffers
    return registry, last


def _replace(model: Any, by: Callable[[Any], Any]) -> None:
    for module in model.modules():
        for registry in (module._parameters, module._buffers):
            for name, tensor in registry.items():
                registry[name] = by(tensor)
