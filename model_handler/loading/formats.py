"""Load artifacts that consist of one file of a known format: XGBoost, scikit-learn, ONNX, torch programs.

A library is imported when the first model needs it. Invariant: nothing is unpickled, except torch.export
programs, and those only in a process that may run the artifact's code anyway.
"""

import ctypes
import gc
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from model_handler.artifacts import files as artifact_files
from model_handler.artifacts import properties
from model_handler.artifacts.conventions import PICKLES, SUFFIXES, XGBOOST_FILES, Convention
from model_handler.artifacts.properties import Isolation
from model_handler.artifacts.stamps import stamped
from model_handler.codecs.arrays import ArrayCodec
from model_handler.codecs.media_types import CSV
from model_handler.device.device import Device, is_sticky
from model_handler.errors import EngineError, ModelLoadFailed
from model_handler.handlers import Handler
from model_handler.handlers.boosters import Booster
from model_handler.handlers.estimators import Estimator
from model_handler.handlers.onnx_graphs import OnnxGraph
from model_handler.handlers.tensors import ArrayHandler
from model_handler.handlers.torch_graphs import exported, torchscript
from model_handler.loading import failures
from model_handler.options import RequestLimits

log = logging.getLogger(__name__)

_MAYBE_PICKLES = (*PICKLES, ".bin", ".model")
_BARE = ("xgboost-model",)  # the file name of SageMaker's XGBoost, which may hold a pickle
_UNSAFE = (
    "torch.export.load unpickles and runs what the file says as Python, so a .pt2 is not opened in a"
    " process shared with other models: export it to ONNX, or load it in a code/inference.py"
)
_CONVERSION = {
    Convention.SKOPS: 'skops.io.dump(model, "model.skops")',
    Convention.XGBOOST: 'booster.save_model("model.ubj")',
}


@dataclass(slots=True)
class FormatLoader:
    """Owned by one loading thread. `alone`: the process belongs to one model, which may run code in it."""

    device: Device
    alone: bool = False
    limits: RequestLimits = field(default_factory=RequestLimits)

    def load(self, path: Path, convention: Convention) -> ArrayHandler:
        """Raises ModelLoadFailed or InsufficientMemory; a sticky device error is re-raised unchanged."""
        try:
            if convention is Convention.EXPORTED and not self.alone:
                raise ModelLoadFailed(_UNSAFE)
            artifact_files.sizes(path)  # raises for what is no file
            if convention is Convention.TORCHSCRIPT:
                trusted = self.alone and properties.read(path).isolation is Isolation.OWN
                handler = _torchscript(path, self.device.torch_device, trusted=trusted)
            else:
                handler = _OPENERS[convention](path, self.device.torch_device)
            handler.codec = handler.codec.within(self.limits)
            return handler
        # Broad: a foreign file can fail in any way, and every library raises other classes
        except Exception as error:
            if is_sticky(error, self.device):
                raise
            failure = _failure(error)
        # Only here are the frames gone that held the half-loaded model
        gc.collect()
        self._give_back()
        raise failure

    def unload(self, handler: Handler) -> int:
        """Free the model. Returns its bytes if something still refers to it, else 0."""
        assert isinstance(handler, ArrayHandler), "not loaded here"
        native = weakref.ref(handler.model.native)
        handler.release()
        if native() is not None:
            gc.collect()
        self._give_back()
        return 0 if native() is None else handler.nbytes

    def _give_back(self) -> None:
        """Return freed memory to the system: trees and tensors of tiny models are on malloc's heap."""
        self.device.empty_cache()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


# ---- one function per convention ----


def _booster(path: Path, device: torch.device) -> ArrayHandler:
    named = [path / name for name in XGBOOST_FILES if (path / name).is_file()]
    file = named[0] if named else _file(path, Convention.XGBOOST)
    booster = Booster(file.read_bytes())
    # SageMaker's XGBoost answers in CSV by default
    return ArrayHandler(booster, ArrayCodec(default=CSV, columns=booster.columns))


def _estimator(path: Path, device: torch.device) -> ArrayHandler:
    return ArrayHandler(Estimator(_file(path, Convention.SKOPS)), ArrayCodec())


def _onnx(path: Path, device: torch.device) -> ArrayHandler:
    file = _file(path, Convention.ONNX)
    # All files: a graph may store its weights in files of their own
    sizes = (entry.stat().st_size for entry in path.iterdir() if entry.is_file())
    stamps = stamped(entry for entry in path.iterdir() if entry.is_file())
    graph = OnnxGraph(file, sum(sizes), joins=_joins(path))
    handler = ArrayHandler(graph, ArrayCodec())
    handler.mapped = stamps
    return handler


def _torchscript(path: Path, device: torch.device, *, trusted: bool = False) -> ArrayHandler:
    file = _file(path, Convention.TORCHSCRIPT)
    graph = torchscript(file, device, joins=_joins(path), trusted=trusted)
    return ArrayHandler(graph, ArrayCodec())


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
    """Whether the artifact sets batch_size, which declares that the model answers row by row."""
    return (properties.read(path).batch_size or 1) > 1


def _file(root: Path, convention: Convention) -> Path:
    """The only file with a suffix of the convention. Raises ModelLoadFailed for none or several."""
    suffixes = [suffix for suffix, each in SUFFIXES.items() if each is convention]
    files = [entry for entry in sorted(root.iterdir()) if entry.is_file()]
    found = [file for file in files if file.suffix in suffixes]
    if len(found) == 1:
        return found[0]
    wanted = " or ".join(f"*{suffix}" for suffix in suffixes)
    if found:
        raise ModelLoadFailed(f"{len(found)} files are {wanted}: one artifact is one model")
    pickles = [file.name for file in files if file.suffix in _MAYBE_PICKLES or file.name in _BARE]
    if pickles and convention in _CONVERSION:
        raise ModelLoadFailed(
            f"{pickles[0]} may be a pickle, which executes code when it is read, so it is not opened:"
            f" save the model again with {_CONVERSION[convention]}"
        )
    raise ModelLoadFailed(f"no {wanted} in the artifact")


def _failure(error: Exception) -> EngineError:
    if not isinstance(error, ImportError):
        return failures.failure(error)
    log.warning("load failed", exc_info=error)
    missing = error.name or "a library"
    extra = 'pip install "sagemaker-multi-model-container[formats]"'
    return ModelLoadFailed(f"{missing} is not installed, and this format needs it: {extra}")
