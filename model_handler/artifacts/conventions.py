"""The convention that a model directory follows, and the order in which conventions are tried.

Plain Python without torch: the front process decides this before it sends a load to a worker.
"""

from enum import StrEnum
from pathlib import Path

from model_handler.errors import ModelLoadFailed


class Convention(StrEnum):
    """The values of `option.convention` in serving.properties."""

    INFERENCE = "inference"  # code/inference.py: model_fn, input_fn, predict_fn, output_fn
    ENDPOINT_HANDLER = "handler"  # handler.py: class EndpointHandler
    HUGGING_FACE = "huggingface"  # config.json and weights
    TORCHSCRIPT = "torchscript"
    EXPORTED = "export"  # torch.export
    ONNX = "onnx"
    SKOPS = "skops"  # scikit-learn
    XGBOOST = "xgboost"


# Conventions that run code of the artifact: reading a .pt2 can run code as well
SCRIPTED = frozenset({Convention.INFERENCE, Convention.ENDPOINT_HANDLER, Convention.EXPORTED})
# Conventions that compute on the CPU, also on a machine with a GPU
ON_CPU = frozenset({Convention.ONNX, Convention.SKOPS, Convention.XGBOOST})
INFERENCE_FILES = ("code/inference.py", "inference.py")
HANDLER_FILES = ("handler.py", "code/handler.py")
XGBOOST_FILES = (
    "xgboost-model",
    "model.ubj",
    "xgboost-model.ubj",
    "xgboost-model.json",
    "model.json",
)
SUFFIXES = {
    ".pt2": Convention.EXPORTED,
    ".onnx": Convention.ONNX,
    ".skops": Convention.SKOPS,
    ".ubj": Convention.XGBOOST,
    ".pt": Convention.TORCHSCRIPT,
    ".pth": Convention.TORCHSCRIPT,
    ".ts": Convention.TORCHSCRIPT,
}
# Suffixes of pickles. Reading one executes code, so that only the artifact's own code may do it
PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle")


def detect(root: Path) -> Convention:
    """The first convention that fits. Raises ModelLoadFailed, which says what to change."""
    if script(root, INFERENCE_FILES) is not None:
        return Convention.INFERENCE
    if script(root, HANDLER_FILES) is not None:
        return Convention.ENDPOINT_HANDLER
    if (root / "config.json").is_file():
        return Convention.HUGGING_FACE
    found = {convention for convention in map(_by_name, root.iterdir()) if convention is not None}
    if len(found) == 1:
        return found.pop()
    if found:
        kinds = ", ".join(sorted(found))
        raise ModelLoadFailed(
            f"the artifact could be {kinds}: set option.convention in serving.properties"
        )
    pickles = sorted(file.name for file in root.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise ModelLoadFailed(
            f"{pickles[0]} is a pickle, which executes code when it is read, so it is not opened: save the"
            " model as .ubj (XGBoost), .skops (scikit-learn), .onnx or TorchScript, or read the pickle"
            " in a code/inference.py"
        )
    raise ModelLoadFailed(
        "not a model: no code/inference.py, no handler.py, no config.json,"
        f" no {', '.join(SUFFIXES)} and none of {', '.join(XGBOOST_FILES)}"
    )


def script(root: Path, names: tuple[str, ...]) -> Path | None:
    """The artifact's own code: the first of `names` that is a file, or None."""
    return next((root / name for name in names if (root / name).is_file()), None)


def _by_name(file: Path) -> Convention | None:
    if file.name in XGBOOST_FILES:
        return Convention.XGBOOST
    return SUFFIXES.get(file.suffix)
