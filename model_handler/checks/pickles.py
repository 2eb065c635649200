"""Read the pickles of a TorchScript archive as values, without calling anything that they name.

torch reads them with an unpickler of its own, written in C++, which trusts the tensors' sizes. This module
accepts only the operations that torch writes, so that both readers see the same values.
"""

import io
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from model_handler.errors import ModelLoadFailed

# Operations that torch's pickler writes, except texts: protocol, marks, tuples, lists, dicts, numbers, names,
# memo (indices below 2**24), references to storages, calls, new objects
_OPERATIONS = re.compile(
    rb"(?:\x80\x02|[()\]}tlauesRbNQ\x81\x85-\x89]|K.|M..|J....|G.{8}|\x8a\x08.{8}|q.|h.|[rj]...\0"
    rb"|c[\x20-\x7e]+\n[\x20-\x7e]+\n)*",
    re.DOTALL,
)
_STOP = b"."
_TEXT = ord("X")
_MAX_DEPTH = 100  # torch frees nested values recursively
MAX_VALUES = 2_000_000


class Object:
    """An object of a class of the archive. `state`: its attributes; None: not set."""

    kind = ""
    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ValueError("an object's state is not a dict")
        self.state = dict(state)  # torch copies it as well


@dataclass(slots=True)
class Storage:
    dtype: str
    key: str
    count: int


@dataclass(slots=True)
class TensorView:
    """A tensor: `offset`, `sizes` and `strides` in elements of its storage. Nothing has been checked."""

    storage: Storage
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(slots=True)
class Tagged:
    """A list or dict with its TorchScript type."""

    values: Any
    tag: str


@dataclass(slots=True)
class DeviceName:
    name: str


class _Named:
    """A name of torch in the pickle, and what its call makes."""

    __slots__ = ("_call", "name")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


def values(content: bytes, title: str) -> Any:
    """The value in the pickle. Raises ModelLoadFailed."""
    try:
        _check_operations(content)
        value = _Unpickler(io.BytesIO(content)).load()
    # The pickle module raises many classes for damaged data
    except Exception as error:  # noqa: BLE001
        raise ModelLoadFailed(
            f"{title} holds more than the tensors and values of a module: {error}"
        ) from None
    _check_nesting(value, title)
    return value


def plain(content: bytes, title: str) -> Any:
    """As `values`, for a pickle of numbers, texts and containers. Raises ModelLoadFailed."""
    try:
        _check_operations(content)
        return _Plain(io.BytesIO(content)).load()
    # As above
    except Exception as error:  # noqa: BLE001
        raise ModelLoadFailed(f"{title} holds more than plain values: {error}") from None


def inside(value: Any) -> list[Any]:
    """The values that a container holds."""
    match value:
        case Tagged():
            return [value.values]
        case Object():
            return list((value.state or {}).values())
        case dict():
            return [*value, *value.values()]
        case list() | tuple():
            return list(value)
        case _:
            return []


def distinct(root: Any) -> Iterator[Any]:
    """Each value that can be reached from `root`, once."""
    seen, waiting = set(), [root]
    while waiting:
        value = waiting.pop()
        if id(value) not in seen:
            seen.add(id(value))
            waiting += inside(value)
            yield value


def _check_operations(content: bytes) -> None:
    at, end = 0, len(content) - 1
    while True:
        matched = _OPERATIONS.match(content, at, end)
        assert matched is not None, "may be empty"
        at = matched.end()
        if at >= end or content[at] != _TEXT:
            break
        at += 5 + int.from_bytes(content[at + 1 : at + 5], "little")
    if at != end or content[end:] != _STOP:
        raise ValueError(f"unexpected operation at {at}")


def _check_nesting(root: Any, title: str) -> None:
    """Refuse values that contain themselves, are nested too deep, or too many if each use is counted."""
    sizes: dict[int, tuple[int, int]] = {}  # by id: number of values in it, and their depth
    waiting = [(root, False)]
    open_ids: set[int] = set()
    while waiting:
        value, is_done = waiting.pop()
        parts = inside(value)
        if is_done:
            open_ids.discard(id(value))
            known = [sizes[id(part)] for part in parts]
            count = 1 + sum(each for each, _ in known)
            depth = 1 + max((each for _, each in known), default=0)
            sizes[id(value)] = count, depth
            if count > MAX_VALUES or depth > _MAX_DEPTH:
                raise ModelLoadFailed(f"{title} has more than {MAX_VALUES} values or is too deep")
        elif id(value) in open_ids:
            raise ModelLoadFailed(f"{title} has a value that contains itself")
        elif id(value) not in sizes:
            open_ids.add(id(value))
            waiting.append((value, True))
            waiting += [(part, False) for part in parts if id(part) not in sizes]


# ---- what names stand for ----


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) != ("torch.jit._pickle", "build_intlist"):
            raise ValueError(f"{module}.{name} is not known")
        return _Named(name, list)


class _Unpickler(pickle.Unpickler):
    """Invariant: no name of the pickle is looked up in a module; each gets an object of this module."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self._classes: dict[str, type[Object]] = {}

    def find_class(self, module: str, name: str) -> Any:
        title = f"{module}.{name}"
        if module.startswith("__torch__") and not module.startswith("__torch__.torch.classes"):
            make = {"__slots__": (), "kind": title}
            return self._classes.setdefault(title, type("Object", (Object,), make))
        if module == "torch" and name in DTYPES:
            return _Named(name, _not_callable)
        if title not in _CALLS:
            raise ValueError(f"{title} is not known")
        return _Named(title, _CALLS[title])

    def persistent_load(self, reference: Any) -> Storage:
        match reference:
            case ("storage", _Named(name=name), str(key), str(), int(count)):
                if name in DTYPES and count >= 0:
                    return Storage(name, key, count)
        raise ValueError("a storage is not described as expected")


# Storage class: bytes of one element
DTYPES = {
    "BoolStorage": 1, "ByteStorage": 1, "CharStorage": 1, "ShortStorage": 2, "IntStorage": 4,
    "LongStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "FloatStorage": 4, "DoubleStorage": 8,
    "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip


def _not_callable(*_: Any) -> Any:
    raise ValueError("a type is called")


def _tensor(
    storage: Any, offset: Any, sizes: Any, strides: Any, requires_grad: Any, hooks: Any
) -> TensorView:
    whole = [offset, *sizes, *strides]
    if not isinstance(storage, Storage) or any(type(each) is not int for each in whole):
        raise ValueError("a tensor is not described as expected")
    if hooks or type(requires_grad) is not bool or not isinstance(sizes, tuple):
        raise ValueError("a tensor has hooks or attributes")
    return TensorView(storage, offset, sizes, tuple(strides))


def _tagged(tag: str) -> Callable[[Any], Tagged]:
    def make(given: Any) -> Tagged:
        if not isinstance(given, list):
            raise ValueError(f"{tag} is not a list")
        return Tagged(list(given), tag)

    return make


def _typed(given: Any, tag: Any) -> Tagged:
    if not isinstance(given, list | dict) or not isinstance(tag, str) or len(tag) > 1000:
        raise ValueError("a type is given to a value that is no list")
    return Tagged(given, tag)


def _device(name: Any, index: Any = 0) -> DeviceName:
    if not isinstance(name, str) or not isinstance(index, int):
        raise ValueError("a device is not described as expected")
    return DeviceName(name)


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.device": _device,
    "torch.jit._pickle.build_boollist": _tagged("List[bool]"),
    "torch.jit._pickle.build_doublelist": _tagged("List[float]"),
    "torch.jit._pickle.build_intlist": _tagged("List[int]"),
    "torch.jit._pickle.build_tensorlist": _tagged("List[Tensor]"),
    "torch.jit._pickle.restore_type_tag": _typed,
}
