"""Open an artifact directory with code as a Script."""

import json
from pathlib import Path
from types import ModuleType

from model_handler.artifacts import conventions
from model_handler.artifacts.conventions import HANDLER_FILES, INFERENCE_FILES, Convention
from model_handler.device import device as devices
from model_handler.errors import ModelLoadFailed
from model_handler.messages import Load
from model_handler.options import RequestLimits
from model_handler.scripted import Script, requirements
from model_handler.scripted.context import HandlerContext
from model_handler.scripted.defaults import ArrayDefaults, Defaults
from model_handler.scripted.endpoint_handler import EndpointHandlerScript
from model_handler.scripted.exported import ExportedScript
from model_handler.scripted.hugging_face import PipelineDefaults
from model_handler.scripted.imports import Imports
from model_handler.scripted.inference import InferenceScript

FILES = {Convention.INFERENCE: INFERENCE_FILES, Convention.ENDPOINT_HANDLER: HANDLER_FILES}


def open_script(
    load: Load,
    device: str,
    *,
    store: Path | None,
    alone: bool,
    limits: RequestLimits | None = None,
) -> Script:
    """Open the artifact of a load command.

    `store`: directory for installed requirements; None: requirements are not installed. `alone`: the process
    belongs to this model. `limits`: of requests that are decoded here and not by the artifact's code. Raises
    ModelLoadFailed, and what the artifact's code raises.
    """
    root, convention = Path(load.path), Convention(load.convention)
    if convention is Convention.EXPORTED:
        return ExportedScript(root, devices.parse(device), limits)
    file = conventions.script(root, FILES[convention])
    if file is None:
        raise ModelLoadFailed(f"the artifact has none of {', '.join(FILES[convention])}")
    asked = requirements.find(file, root)
    packages = requirements.install(asked, store) if asked and store else None
    directories = [file.parent, root] if file.parent != root else [root]
    try:
        with Imports(directories, packages, keep=alone) as imports:
            module = imports.module(file)
            if convention is Convention.ENDPOINT_HANDLER:
                return EndpointHandlerScript(module, root)
            return _inference(module, load, root, device, limits)
    except ModuleNotFoundError as error:
        raise _missing(error, asked, root, installs=store is not None) from error


def _inference(
    module: ModuleType, load: Load, root: Path, device: str, limits: RequestLimits | None
) -> InferenceScript:
    defaults: Defaults
    if _is_hugging_face(root / "config.json"):
        defaults = PipelineDefaults(load.task, load.dtype, device, limits)
    else:
        defaults = ArrayDefaults(device)
    kind, _, index = device.partition(":")
    gpu = int(index or 0) if kind == "cuda" else None
    return InferenceScript(module, defaults, HandlerContext(root, load.name or root.name, gpu))


def _is_hugging_face(config: Path) -> bool:
    """Whether transformers wrote the config.json: other tools use this file name without these keys."""
    document = json.loads(config.read_bytes()) if config.is_file() else None
    return isinstance(document, dict) and not {"model_type", "architectures"}.isdisjoint(document)


def _missing(
    error: ModuleNotFoundError, asked: Path | None, root: Path, *, installs: bool
) -> ModelLoadFailed:
    """The error for a missing module, with a hint how to provide it."""
    setting = "installed when MME_INSTALL_REQUIREMENTS is true"
    if asked is None:
        hint = f"add modules that the image lacks to code/requirements.txt, which is {setting}"
    else:
        name = asked.relative_to(root)
        hint = f"{name} does not install it" if installs else f"{name} is {setting}"
    return ModelLoadFailed(f"{error.msg}: {hint}")
