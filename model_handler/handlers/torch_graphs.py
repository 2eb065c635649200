"""TorchScript and torch.export programs: tensors in, tensors out, on the worker's device."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_handler.checks import graphs, torchscript_files
from model_handler.errors import InferenceFailed, InvalidRequest, ModelLoadFailed
from model_handler.handlers import Payload
from model_handler.handlers.signatures import Input, bind, cast
from model_handler.handlers.tensors import Array, ArrayCall, Arrays

_PICKLE = (
    "is a pickle of weights or of a module, not TorchScript: save it with torch.jit, export it to ONNX,"
    " or add a code/inference.py"
)
_PYTHON_STACK = "\n\nAt:\n"  # of an operator that is written in Python
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

    def run(self, call: ArrayCall, deadline: float) -> Arrays:
        tensors = [self._tensor(call.inputs[each.name]) for each in self.inputs]
        try:
            return _arrays(self.native(*tensors))
        except (RuntimeError, IndexError) as error:
            reason = str(error).partition(_PYTHON_STACK)[0].strip().rpartition("\n")[2]
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


def torchscript(
    path: Path, device: torch.device, *, joins: bool, trusted: bool = False
) -> TorchGraph:
    """Open a TorchScript program.

    `trusted`: the process belongs to this model, whose owner lets it do anything. Otherwise raises
    ModelLoadFailed, before anything of the program runs, for what could affect other models.
    """
    if not zipfile.is_zipfile(path):
        raise ModelLoadFailed(f"{path.name} {_PICKLE}")
    with zipfile.ZipFile(path) as archive:
        if not any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise ModelLoadFailed(f"{path.name} {_PICKLE}")
        nbytes = _stored(archive, "/data/", "/constants/")
    if trusted:
        native = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
    else:
        native = graphs.load(path, device, torchscript_files.check(path))
    native = native.eval()
    arguments = native.forward.schema.arguments[1:]
    for argument in arguments:
        if str(argument.type) != "Tensor" and not argument.has_default_value():
            raise ModelLoadFailed(
                f"forward takes {argument.type} as {argument.name}: only tensors can be sent"
            )
    inputs = [Input(each.name) for each in arguments if not each.has_default_value()]
    return TorchGraph(native, inputs, nbytes, device, joins=joins)


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
