"""TorchScript and torch.export programs: tensors in, tensors out, on the worker's device."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_handler.errors import InferenceFailed, InvalidRequest, ModelLoadFailed
from model_handler.handlers import Payload
from model_handler.handlers.signatures import Input, bind, cast
from model_handler.handlers.tensors import Array, ArrayCall, Arrays

# TorchScript cannot run Python, but these operators access the file system
_FILE_ACCESS = re.compile(rb"\b(?:torch|ops\.aten)\.(?:save|load|from_file)\b")
_PICKLE = (
    "is a pickle of weights or of a module, not TorchScript: save it with torch.jit, export it to ONNX,"
    " or add a code/inference.py"
)
_UNFIT = re.compile(r"shape|size|dimension|dtype|scalar type|out of range|Expected|expected")
_NUMPY_FLOATS = {torch.float16: "float16", torch.float32: "float32", torch.float64: "float64"}
_DTYPE_NAMES = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")


class TorchGraph:
    """`nbytes`: size of the tensors in the archive, where they are stored as in memory."""

    by_row = False

    def __init__(
        self, native: Any, inputs: list[Input], nbytes: int, device: torch.device, *, joins: bool
    ) -> None:
        self.native = native
        self.inputs = inputs
        self.nbytes = nbytes
        self.joins = joins
        self._device = device
        self._float = _float_dtype(native)
        self._numpy_float = np.dtype(_NUMPY_FLOATS.get(self._float, "float32"))

    def read(self, payload: Payload) -> ArrayCall:
        """Cast decimals to the model's floating dtype; whole numbers stay whole unless `dtype` is given."""
        parameters = dict(payload.parameters)
        dtype = parameters.pop("dtype", None)
        if parameters or dtype not in (None, *_DTYPE_NAMES):
            raise InvalidRequest(f"the only parameter is dtype: {', '.join(_DTYPE_NAMES)}")
        inputs = bind(payload.inputs, self.inputs)
        return ArrayCall({name: self._typed(each, dtype) for name, each in inputs.items()})

    def run(self, call: ArrayCall) -> Arrays:
        tensors = [self._tensor(call.inputs[each.name]) for each in self.inputs]
        try:
            return _arrays(self.native(*tensors))
        except (RuntimeError, IndexError) as error:
            reason = str(error).strip().rpartition("\n")[2]
            lost = isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError)
            if lost or "CUDA" in reason or not _UNFIT.search(reason):
                raise
            raise InvalidRequest(f"the model rejects the input: {reason}") from None

    def _typed(self, values: Array, dtype: str | None) -> Array:
        if values.dtype == object:
            raise InvalidRequest("the model takes numbers, the input has texts")
        wanted = self._numpy_float if values.dtype.kind == "f" else values.dtype
        wanted = np.dtype(dtype) if dtype else wanted
        return np.ascontiguousarray(cast(values, wanted, wanted.name))

    def _tensor(self, values: Array) -> torch.Tensor:
        tensor = torch.from_numpy(values).to(self._device)
        unknown_to_numpy = tensor.is_floating_point() and self._float not in _NUMPY_FLOATS
        return tensor.to(self._float) if unknown_to_numpy else tensor


def torchscript(path: Path, device: torch.device, *, joins: bool) -> TorchGraph:
    """Open a TorchScript program. Raises ModelLoadFailed for pickles and for programs that access files."""
    if not zipfile.is_zipfile(path):
        raise ModelLoadFailed(f"{path.name} {_PICKLE}")
    with zipfile.ZipFile(path) as archive:
        _check(archive, path.name)
        nbytes = _stored(archive, "/data/", "/constants/")
    native = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    arguments = native.forward.schema.arguments[1:]
    for argument in arguments:
        if str(argument.type) != "Tensor" and not argument.has_default_value():
            raise ModelLoadFailed(
                f"forward takes {argument.type} as {argument.name}: only tensors can be sent"
            )
    inputs = [Input(each.name) for each in arguments if not each.has_default_value()]
    return TorchGraph(native, inputs, nbytes, device, joins=joins)


def _check(archive: zipfile.ZipFile, title: str) -> None:
    names = archive.namelist()
    if not any(name.endswith("/constants.pkl") for name in names):
        raise ModelLoadFailed(f"{title} {_PICKLE}")
    if len({name.lower() for name in names}) != len(
        names
    ):  # torch might read a different member than this check
        raise ModelLoadFailed(f"{title} has two members of the same name")
    for name in names:
        if name.endswith(".py") and _FILE_ACCESS.search(archive.read(name)):
            raise ModelLoadFailed(f"{title} reads or writes files, which is refused")


def exported(path: Path, device: torch.device, *, joins: bool) -> TorchGraph:
    """Open a torch.export program.

    torch.export.load unpickles and runs text of the file as Python: call it only in processes that may run
    the artifact's code.
    """
    with zipfile.ZipFile(path) as archive:
        nbytes = _stored(archive, "/data/weights/", "/data/constants/")
    program = torch.export.load(str(path))
    inputs = [_placeholder(node) for node in program.graph.nodes if _is_input(program, node)]
    native = program.module().to(device)
    return TorchGraph(native, inputs, nbytes, device, joins=joins)


def _is_input(program: Any, node: Any) -> bool:
    return node.op == "placeholder" and node.name in program.graph_signature.user_inputs


def _placeholder(node: Any) -> Input:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise ModelLoadFailed(f"the program takes {node.name}: only tensors can be sent")
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Input(node.name, np.dtype(str(value.dtype).removeprefix("torch.")), shape)


def _stored(archive: zipfile.ZipFile, *folders: str) -> int:
    members = archive.infolist()
    return sum(
        member.file_size
        for member in members
        if any(folder in member.filename for folder in folders)
        and not member.filename.endswith(".json")
    )


def _float_dtype(native: Any) -> torch.dtype:
    """The dtype of the first floating-point weight; float32 if there is none."""
    floats = (each for each in native.parameters() if each.is_floating_point())
    first: torch.Tensor | None = next(floats, None)
    return torch.float32 if first is None else first.dtype


def _arrays(outputs: Any) -> Arrays:
    """A tensor, or several in a tuple, list or dict. Raises InferenceFailed for anything else."""
    if isinstance(outputs, torch.Tensor):
        outputs = {"output": outputs}
    elif isinstance(outputs, tuple | list):
        outputs = {f"output_{index}": each for index, each in enumerate(outputs)}
    if not isinstance(outputs, Mapping):
        raise InferenceFailed(f"the model answers with {type(outputs).__name__}, not with tensors")
    return {str(name): _array(value) for name, value in outputs.items()}


def _array(value: Any) -> Array:
    if not isinstance(value, torch.Tensor):
        raise InferenceFailed(f"an output is {type(value).__name__}, not a tensor")
    plain = value.float() if value.dtype == torch.bfloat16 else value
    return plain.numpy(force=True)
