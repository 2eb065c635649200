"""Load Hugging Face artifacts as handlers on the device; demote, promote and unload them.

Invariant: a failed load leaves nothing behind. An unload returns how many bytes it could not free. On a GPU
all tensors of a model are views of one block of memory: a demotion frees the block and a promotion fills it
again, while handler, modules and tokenizer stay.
"""

import gc
import importlib
import logging
import weakref
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.pipelines import SUPPORTED_TASKS

from model_handler.artifacts import artifact, tasks, weights
from model_handler.artifacts import files as artifact_files
from model_handler.artifacts.stamps import Stamps, stamped
from model_handler.artifacts.tasks import InputKind
from model_handler.budgets import deadlines
from model_handler.codecs.toolkit import ToolkitCodec
from model_handler.device import precision
from model_handler.device.device import Device, is_sticky
from model_handler.errors import InsufficientMemory, ModelLoadFailed
from model_handler.handlers import Handler
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.handlers.question_answering import QuestionAnsweringPipeline
from model_handler.handlers.staged import Staged
from model_handler.handlers.text2text import PIPELINES as TEXT2TEXT
from model_handler.loading import (
    building,
    completeness,
    failures,
    plain_filling,
    structure_cache,
    unstored,
)
from model_handler.loading.processors import Processors, has_tokenizer
from model_handler.loading.structure_cache import StructureCache
from model_handler.options import WorkerOptions
from model_handler.sharing import turnstile
from model_handler.sharing.turnstile import Turnstile
from model_handler.transfer import origins, placement, registrations
from model_handler.transfer.block import Block, Blocks
from model_handler.transfer.upload import Uploader

log = logging.getLogger(__name__)

_HEADER_DTYPES = {
    "F64": torch.float32,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}
_OWN_AUTO = {
    "question-answering": transformers.AutoModelForQuestionAnswering,
    **dict.fromkeys(TEXT2TEXT, transformers.AutoModelForSeq2SeqLM),
}
# Settings of config.json that name other files, or change classes for every model of the process
_REFUSED_CONFIG = ("transformers_weights", "fusion_config", "custom_pipelines")


@dataclass
class TorchLoader:
    """Owned by one loading thread. `turnstile`: the one whose turns the forwards of this process take.

    `uploader`: None where weights are used directly from the mapped files.
    """

    device: Device
    turnstile: Turnstile
    options: WorkerOptions = field(default_factory=WorkerOptions)
    processors: Processors = field(default_factory=Processors)
    structure_cache: StructureCache = field(default_factory=StructureCache)
    uploader: Uploader | None = None

    def __post_init__(self) -> None:
        if self.uploader is None and self.device.torch_device.type != "cpu":
            device, limit = self.device.torch_device, self.options.registered_nbytes
            self.uploader = Uploader(device, registrations=registrations.on(device, limit))
        self._blocks = Blocks()

    def load(self, path: str | Path, task: str, dtype: str = "auto") -> PipelineHandler:
        """Raises ModelLoadFailed or InsufficientMemory; a sticky device error is re-raised unchanged."""
        _quieten()
        try:
            return self._load(Path(path), tasks.normalise(task), dtype)
        # Broad: a foreign file can fail in any way, and every layer below raises other classes
        except Exception as error:
            if is_sticky(error, self.device):
                raise
            failed = failures.failure(error)
        # Only here are the frames gone that held the half-loaded model
        gc.collect()
        self.device.empty_cache()
        raise failed

    def demote(self, handler: Handler) -> bool:
        """Free the model's device memory and keep the rest. Returns False if it could not be promoted again.

        Forwards launched before may still be running. None may be launched until the promotion.
        """
        return self._blocks.free(handler)

    def promote(self, handler: Handler) -> bool:
        """Restore a demoted model. Returns False if its files are unreadable or changed: load it instead.

        Raises InsufficientMemory, after which the model is still demoted; a sticky device error is re-raised
        unchanged.
        """
        try:
            self._blocks.refill(handler)
        # Broad, as in `load`: files and devices fail with many classes
        except Exception as error:
            if is_sticky(error, self.device):
                raise
            failed = failures.failure(error)
        else:
            return True
        if isinstance(failed, InsufficientMemory):
            self.device.empty_cache()
            raise failed
        log.warning("promotion failed", extra={"reason": str(failed)})
        return False

    def unload(self, handler: Handler) -> int:
        """Free the model, demoted or not. Returns the bytes of it that something still refers to."""
        assert isinstance(handler, PipelineHandler), "not loaded here"
        held = self._blocks.drop(handler) or [
            (weakref.ref(tensor), placement.nbytes(tensor))
            for tensor in placement.tensors(handler.model)
        ]
        self.processors.keep(handler.processors)
        handler.release()
        if any(each() is not None for each, _ in held):
            gc.collect()
        return sum(nbytes for each, nbytes in held if each() is not None)

    def _load(self, path: Path, task: str, dtype: str) -> PipelineHandler:
        config = _config(path)
        files = weights.files(path)
        stamps = stamped(files)
        stored = stored_dtype(files)
        kind = _pipeline_class(task)
        max_tokens = _max_tokens(config)
        auto = _auto_class(task, config)
        parts = self._parts(kind, path, config, task, max_tokens)
        model, by_name = self._model(auto, path, task, config, stored, files)
        max_tokens = _offset_positions(model, max_tokens)
        run_dtype = precision.run_dtype(dtype, stored, self.device, path)
        block = self._place(model, run_dtype, files, stamps, by_name)
        if (tokenizer := parts.get("tokenizer")) is not None and max_tokens is not None:
            tokenizer.model_max_length = min(tokenizer.model_max_length, max_tokens)
        device = self.device.torch_device
        pipeline = Staged(kind, model=model, task=task, device=device, **parts)
        nbytes = block.nbytes if block else sum(map(placement.nbytes, placement.tensors(model)))
        limits = self.options.limits
        codec = ToolkitCodec(limits)
        handler = PipelineHandler(
            task, pipeline, nbytes=nbytes, max_tokens=max_tokens, limits=limits, codec=codec
        )
        if block is not None:
            self._blocks.put(handler, block)
        else:
            handler.mapped = stamps
        return handler

    def _parts(
        self, kind: Any, path: Path, config: Any, task: str, max_tokens: int | None
    ) -> dict[str, Any]:
        parts: dict[str, Any] = {}
        if kind._load_tokenizer or (kind._load_tokenizer is None and has_tokenizer(path)):
            parts["tokenizer"] = self.processors.tokenizer(path, config, task, max_tokens)
        if kind._load_image_processor:
            parts["image_processor"] = self.processors.image_processor(path)
        if kind._load_feature_extractor:
            parts["feature_extractor"] = self.processors.feature_extractor(path)
        return parts

    def _model(
        self,
        auto: Any,
        path: Path,
        task: str,
        config: Any,
        stored: torch.dtype,
        files: list[Path],
    ) -> tuple[Any, bool]:
        """Build the model, from the structure cache if a model of the same structure was loaded before.

        Also returns whether the files hold all its tensors, except computed ones, under the same names.
        """
        if not _are_safetensors(files):
            return self._built_by_transformers(auto, path, task, config, stored, files), False
        key = structure_cache.key(auto, path / "config.json", files, stored)
        model = self.structure_cache.build(key, files, config)
        if model is not None:
            return model, True
        model = self._built_by_transformers(auto, path, task, config, stored, files)
        return model, self.structure_cache.learn(key, model, files)

    def _built_by_transformers(
        self,
        auto: Any,
        path: Path,
        task: str,
        config: Any,
        stored: torch.dtype,
        files: list[Path],
    ) -> Any:
        with (
            building.sharing(self.turnstile, stored),
            unstored.limited(files),
            plain_filling.preferred(files),
        ):
            model, info = auto.from_pretrained(
                str(path),
                config=config,
                dtype=stored,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=_are_safetensors(files),
                weights_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        completeness.check(info, task)
        if (
            tasks.generates(task)
            or tasks.input_kind(task) is not InputKind.TEXT
            or not _max_tokens(config)
        ):
            _look_up_between_layers(model)
        return model.eval().requires_grad_(False)

    def _place(
        self, model: Any, dtype: torch.dtype, files: list[Path], stamps: Stamps, by_name: bool
    ) -> Block | None:
        model.config.dtype = dtype
        targets = placement.targets(model, dtype)
        if self.uploader is None or not placement.blockable(targets):
            placement.convert(targets, self.device.torch_device)
            return None
        found = origins.by_name(model, files) if by_name else origins.by_pages(model, files)
        return placement.into_block(targets, found, stamps, self.uploader)


def _look_up_between_layers(model: Any) -> None:
    """Let brief work of other models run between two layers of this one, and end after the deadline."""
    stacks = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    inner = {id(module) for stack in stacks for layer in stack for module in layer.modules()}
    for stack in stacks:
        if id(stack) not in inner:
            for layer in stack:
                layer.register_forward_pre_hook(_before_layer)


def _before_layer(*_: object) -> None:
    deadlines.check()
    turnstile.let_brief_pass()


# ---- configuration and files ----


def _config(path: Path) -> Any:
    document = artifact.read_config(path, artifact_files.sizes(path))
    for name in _REFUSED_CONFIG:
        if document.get(name):
            raise ModelLoadFailed(f"config.json sets {name!r}, which is not supported")
    return transformers.AutoConfig.from_pretrained(
        str(path), local_files_only=True, trust_remote_code=False
    )


def _are_safetensors(files: list[Path]) -> bool:
    return files[0].suffix == ".safetensors"


def stored_dtype(files: list[Path]) -> torch.dtype:
    """The dtype of most tensors in the header of the first safetensors file; float32 without such a file."""
    if not _are_safetensors(files):
        return torch.float32
    stored = [tensor["dtype"] for tensor in weights.header(files[0]).values()]
    counts = Counter(_HEADER_DTYPES[each] for each in stored if each in _HEADER_DTYPES)
    return counts.most_common(1)[0][0] if counts else torch.float32


def _max_tokens(config: Any) -> int | None:
    positions = getattr(config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def _offset_positions(model: Any, max_tokens: int | None) -> int | None:
    """`max_tokens` without the positions up to the padding token's index, which RoBERTa-like models skip."""
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if max_tokens and name.endswith("embeddings.position_embeddings") and padding is not None:
            return max_tokens - int(padding) - 1
    return max_tokens


# ---- choice of classes ----


def _pipeline_class(task: str) -> Any:
    name = tasks.family(task)
    if name == "question-answering":
        return QuestionAnsweringPipeline
    if name in TEXT2TEXT:
        return TEXT2TEXT[name]
    kind = SUPPORTED_TASKS[name]["impl"]
    if not isinstance(kind, str):  # a class in transformers 5.17, a dotted name in 5.23
        return kind
    module, _, attribute = kind.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _auto_class(task: str, config: Any) -> Any:
    """The AutoModel class of the task that builds the checkpoint's architecture, else the first that fits."""
    name = tasks.family(task)
    candidates = (_OWN_AUTO[name],) if name in _OWN_AUTO else SUPPORTED_TASKS[name]["pt"]
    fitting = [auto for auto in candidates if type(config) in auto._model_mapping]
    if not fitting:
        raise ModelLoadFailed(f"a {config.model_type} model cannot do {name}")
    named = (config.architectures or [None])[0]
    exact = [auto for auto in fitting if named in _names(auto._model_mapping[type(config)])]
    return (exact or fitting)[0]


def _names(classes: Any) -> list[str]:
    return [each.__name__ for each in (classes if isinstance(classes, tuple) else (classes,))]


def _quieten() -> None:
    """No progress bars and no reports on weights in the worker's log: `completeness` checks weights."""
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
