"""Artifacts that are one file of a known format to handlers: XGBoost, scikit-learn, ONNX, TorchScript.

Libraries are imported when the first model needs them. Nothing that unpickles is called, but for
torch.export's programs, and those only in a process that runs the artifact's own code anyway.
"""

import ctypes
import gc
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from model_handler.artifacts import properties
from model_handler.artifacts.conventions import SUFFIXES, XGBOOST_FILES, Convention
from model_handler.codecs.arrays import ArrayCodec
from model_handler.codecs.media_types import CSV
from model_handler.device.device import Device, is_out_of_memory, is_sticky
from model_handler.errors import EngineError, InsufficientMemory, ModelLoadFailed
from model_handler.handlers import Handler
from model_handler.handlers.boosters import Booster
from model_handler.handlers.estimators import Estimator
from model_handler.handlers.onnx_graphs import OnnxGraph
from model_handler.handlers.tensors import ArrayHandler
from model_handler.handlers.torch_graphs import exported, torchscript

log = logging.getLogger(__name__)

_PICKLES = (".pkl", ".pickle", ".joblib", ".bin", ".model", ".dill", ".cloudpickle")
_BARE = ("xgboost-model",)  # SageMaker's own name for what may be a pickle
_UNSAFE = (
    "torch.export.load unpickles and runs what the file says as Python, so a .pt2 is not opened beside"
    " other models: export it to ONNX, or load it in a code/inference.py of its own"
)
_CONVERSION = {
    Convention.SKOPS: 'skops.io.dump(model, "model.skops")',
    Convention.XGBOOST: 'booster.save_model("model.ubj")',
}


@dataclass(slots=True)
class FormatLoader:
    """Loads on one thread. `alone`: the process belongs to one model, which may run code in it."""

    device: Device
    alone: bool = False

    def load(self, path: Path, convention: Convention) -> ArrayHandler:
        """Raises ModelLoadFailed, or InsufficientMemory; a sticky device error comes out as it is."""
        try:
            if convention is Convention.EXPORTED and not self.alone:
                raise ModelLoadFailed(_UNSAFE)
            return _OPENERS[convention](path, self.device.torch_device)
        # Anything can be wrong with files from outside, and every library says it differently
        except Exception as error:
            if is_sticky(error, self.device):
                raise
            failure = _failure(error)
        # Only now are the frames gone that held the half-loaded model
        gc.collect()
        self._give_back()
        raise failure

    def unload(self, handler: Handler) -> int:
        """Frees the model and returns the bytes of it that something still holds."""
        assert isinstance(handler, ArrayHandler), "not loaded here"
        native = weakref.ref(handler.model.native)
        handler.release()
        if native() is not None:
            gc.collect()
        self._give_back()
        return 0 if native() is None else handler.nbytes

    def _give_back(self) -> None:
        """To the system what was freed: trees and tensors of tiny models lie in malloc's heap."""
        self.device.empty_cache()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


# ---- one function per convention ----


def _booster(path: Path, device: torch.device) -> ArrayHandler:
    named = [path / name for name in XGBOOST_FILES if (path / name).is_file()]
    file = named[0] if named else _file(path, Convention.XGBOOST)
    booster = Booster(file.read_bytes())
    # SageMaker's XGBoost answers in CSV unless told otherwise
    return ArrayHandler(booster, ArrayCodec(default=CSV, columns=booster.columns))


def _estimator(path: Path, device: torch.device) -> ArrayHandler:
    return ArrayHandler(Estimator(_file(path, Convention.SKOPS)), ArrayCodec())


def _onnx(path: Path, device: torch.device) -> ArrayHandler:
    file = _file(path, Convention.ONNX)
    beside = (entry.stat().st_size for entry in path.iterdir() if entry.is_file())
    graph = OnnxGraph(
        file, sum(beside), joins=_joins(path)
    )  # weights may lie in files of their own
    return ArrayHandler(graph, ArrayCodec())


def _torchscript(path: Path, device: torch.device) -> ArrayHandler:
    file = _file(path, Convention.TORCHSCRIPT)
    return ArrayHandler(torchscript(file, device, joins=_joins(path)), ArrayCodec())


def _exported(path: Path, device: torch.device) -> ArrayHandler:
    file = _file(path, Convention.EXPORTED)
    return ArrayHandler(exported(file, device, joins=_joins(path)), ArrayCodec())


_OPENERS: dict[Convention, Callable[[Path, torch.device], ArrayHandler]] = {
    Convention.EXPORTED: _exported,
    Convention.ONNX: _onnx,
    Convention.SKOPS: _estimator,
    Convention.TORCHSCRIPT: _torchscript,
    Convention.XGBOOST: _booster,
}
CONVENTIONS = frozenset(_OPENERS)


def _joins(path: Path) -> bool:
    """Whoever sets batch_size says that the model answers row by row."""
    return (properties.read(path).batch_size or 1) > 1


def _file(root: Path, convention: Convention) -> Path:
    """The only file with one of its endings. Raises ModelLoadFailed saying what there is instead."""
    suffixes = [suffix for suffix, each in SUFFIXES.items() if each is convention]
    files = [entry for entry in sorted(root.iterdir()) if entry.is_file()]
    found = [file for file in files if file.suffix in suffixes]
    if len(found) == 1:
        return found[0]
    wanted = " or ".join(f"*{suffix}" for suffix in suffixes)
    if found:
        raise ModelLoadFailed(f"{len(found)} files are {wanted}: one artifact is one model")
    pickles = [file.name for file in files if file.suffix in _PICKLES or file.name in _BARE]
    if pickles and convention in _CONVERSION:
        raise ModelLoadFailed(
            f"{pickles[0]} may be a pickle, which executes code when it is read, so it never is: save"
            f" the model anew with {_CONVERSION[convention]}"
        )
    raise ModelLoadFailed(f"no {wanted} in the artifact")


# ---- what went wrong ----


def _failure(error: Exception) -> EngineError:
    """The engine's error for it, without its traceback. The text is the first line of what was said."""
    if isinstance(error, EngineError):
        return type(error)(*error.args)
    log.warning("load failed", exc_info=error)
    if isinstance(error, ImportError):
        missing = error.name or "a library"
        extra = 'pip install "sagemaker-multi-model-container[formats]"'
        return ModelLoadFailed(f"{missing} is not installed, and this format needs it: {extra}")
    if is_out_of_memory(error):
        return InsufficientMemory("the model does not fit into the memory that is left")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else "no reason given"
    return ModelLoadFailed(f"{type(error).__name__}: {text}"[:500])
