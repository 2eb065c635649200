"""ONNX graphs on onnxruntime's CPU provider. All sessions share one thread pool."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_handler.budgets.interruption import Interruptions
from model_handler.errors import DeadlineExceeded, InvalidRequest, ModelLoadFailed
from model_handler.handlers import Payload
from model_handler.handlers.signatures import Input, bind
from model_handler.handlers.tensors import Array, ArrayCall, Arrays

_DTYPES = {
    "tensor(bool)": np.bool_,
    "tensor(double)": np.float64,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(string)": np.object_,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
}
# Run-time errors about the shape or the values of inputs, which only the graph can detect
_UNFIT = re.compile(r"dimension|shape|size|rank|bounds|indices|index", re.IGNORECASE)
_SESSION_NBYTES = 170_000  # measured for a session of a graph with ten nodes; 68,000 with one node


class OnnxGraph:
    """`nbytes`: size of the files and the session. The memory of a run is freed after it.

    Requests are batched if the graph names its leading dimensions after the batch, or if `joins` is set.
    """

    by_row = False

    def __init__(self, path: Path, nbytes: int, *, joins: bool = False) -> None:
        """Raises ModelLoadFailed for inputs that are not tensors, and what onnxruntime raises."""
        import onnxruntime

        _share_threads()
        self.native = onnxruntime.InferenceSession(
            str(path), _options(onnxruntime), providers=["CPUExecutionProvider"]
        )
        errors = onnxruntime.capi.onnxruntime_pybind11_state
        self._run_options = onnxruntime.RunOptions
        self._failures = errors.InvalidArgument, errors.Fail, errors.RuntimeException
        self.inputs = [_input(each) for each in self.native.get_inputs()]
        self._outputs = [each.name for each in self.native.get_outputs()]
        both = [*self.native.get_inputs(), *self.native.get_outputs()]
        self.joins = joins or all(_leads_with_batch(each.shape) for each in both)
        self.nbytes = nbytes + _SESSION_NBYTES

    def read(self, payload: Payload) -> ArrayCall:
        if payload.parameters:
            raise InvalidRequest("an ONNX model takes no parameters")
        return ArrayCall(bind(payload.inputs, self.inputs))

    def run(self, call: ArrayCall, deadline: float) -> Arrays:
        """A graph can contain endless loops: at the deadline it is stopped before its next node."""
        options = self._run_options()
        stop = functools.partial(setattr, options, "terminate", True)
        try:
            with _interruptions.at(deadline, stop):
                values = self.native.run(self._outputs, call.inputs, options)
        except self._failures as error:
            if options.terminate:
                raise DeadlineExceeded(
                    "the model was stopped at the deadline of the request"
                ) from None
            reason = str(error).rpartition(" : ")[2].rpartition("Status Message: ")[2]
            if "allocat" in reason:
                raise MemoryError(reason) from None
            if not _UNFIT.search(reason):
                raise
            raise InvalidRequest(f"the model rejects the input: {reason}") from None
        return dict(zip(self._outputs, map(_array, values), strict=True))


_interruptions = Interruptions()


class _Pool:
    threads = 0  # 0: as many as torch has


_pool = _Pool()


@functools.cache
def _share_threads() -> None:
    """Create the thread pool of all sessions; one pool per session would oversubscribe."""
    import onnxruntime

    onnxruntime.set_global_thread_pool_sizes(_pool.threads or torch.get_num_threads(), 1)


def set_pool_threads(count: int) -> None:
    """Set the number of threads of all sessions together. Call before the first graph is opened."""
    _pool.threads = count


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.use_per_session_threads = False
    options.enable_cpu_mem_arena = (
        False  # an arena keeps the memory of the model's largest run until the unload
    )
    options.log_severity_level = (
        4  # off: errors are raised as exceptions, and warnings concern the exporter
    )
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _input(declared: Any) -> Input:
    if declared.type not in _DTYPES:
        raise ModelLoadFailed(f"input {declared.name} is {declared.type}: only tensors can be sent")
    return Input(declared.name, np.dtype(_DTYPES[declared.type]), tuple(declared.shape))


def _leads_with_batch(shape: Sequence[Any]) -> bool:
    return (
        bool(shape) and isinstance(shape[0], str) and shape[0].lower().startswith(("batch", "n_"))
    )


def _array(value: Any) -> Array:
    """An array. Converted classifiers return sequences of maps: one object per row."""
    return np.asarray(value, dtype=object) if isinstance(value, list) else np.asarray(value)
