"""From a directory with code to a Script."""

from pathlib import Path

from model_handler import conventions
from model_handler import device as devices
from model_handler.conventions import HANDLER_FILES, INFERENCE_FILES, Convention
from model_handler.errors import ModelLoadFailed
from model_handler.messages import Load
from model_handler.scripted import Script, requirements
from model_handler.scripted.context import Context
from model_handler.scripted.endpoint_handler import EndpointHandlerScript
from model_handler.scripted.exported import ExportedScript
from model_handler.scripted.imports import Imports
from model_handler.scripted.inference import InferenceScript

FILES = {Convention.INFERENCE: INFERENCE_FILES, Convention.ENDPOINT_HANDLER: HANDLER_FILES}


def open_script(load: Load, device: str, *, store: Path | None, alone: bool) -> Script:
    """`store`: where requirements are installed, None where they are not. Raises ModelLoadFailed, and
    whatever the artifact's code raises."""
    root, convention = Path(load.path), Convention(load.convention)
    if convention is Convention.EXPORTED:
        return ExportedScript(root, devices.parse(device))
    file = conventions.script(root, FILES[convention])
    if file is None:
        raise ModelLoadFailed(f"none of {', '.join(FILES[convention])} is there")
    packages = requirements.install(root / "code", store) if store is not None else None
    directories = [file.parent, root] if file.parent != root else [root]
    with Imports([*directories, *([packages] if packages else [])], root, keep=alone) as imports:
        module = imports.module(file)
        if convention is Convention.ENDPOINT_HANDLER:
            return EndpointHandlerScript(module, root)
        kind, _, index = device.partition(":")
        gpu = int(index or 0) if kind == "cuda" else None
        return InferenceScript(module, root, load.task, Context(root, root.name, gpu))
