"""Default implementations of the functions that an inference.py does not define.

They follow sagemaker-inference, and the SageMaker PyTorch toolkit for a model that is a torch module. The npy
decoder is different: sagemaker-inference's unpickles data that the caller sends.
"""

from pathlib import Path
from typing import Any, Protocol

import torch

from model_handler.codecs import media_types
from model_handler.codecs.media_types import JSON
from model_handler.errors import ModelLoadFailed, UnacceptableAccept, UnsupportedContentType
from model_handler.scripted import documents


class Defaults(Protocol):
    """`whole`: the defaults are complete, so that the artifact need not define any function."""

    whole: bool

    def model_fn(self, model_dir: str) -> Any: ...

    def adopt(self, model: Any, *, runs: bool) -> None:
        """Called once with the model from model_fn. `runs`: the default `predict_fn` gets the model."""
        ...

    def input_fn(self, body: bytes | str, content_type: str) -> Any: ...

    def predict_fn(self, data: Any, model: Any) -> Any: ...

    def output_fn(self, prediction: Any, accept: str) -> Any: ...


class ArrayDefaults:
    """Arrays in and out; a torch module gets tensors."""

    whole = False

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._tensors = False

    def model_fn(self, model_dir: str) -> Any:
        """Open the only TorchScript file, as the PyTorch toolkit does."""
        root = Path(model_dir)
        files = [root / "model.pt"] if (root / "model.pt").is_file() else _torch_files(root)
        if len(files) != 1:
            raise ModelLoadFailed(
                "inference.py has no model_fn, and there is neither a config.json nor one TorchScript"
                " file to load without it"
            )
        return torch.jit.load(files[0], map_location=self._device)  # type: ignore[no-untyped-call]

    def adopt(self, model: Any, *, runs: bool) -> None:
        self._tensors = isinstance(model, torch.nn.Module)
        if not runs:
            return
        if isinstance(model, torch.nn.Module):
            model.eval().to(self._device)
        elif not callable(model) and not hasattr(model, "predict"):
            kind = type(model).__name__
            raise ModelLoadFailed(f"inference.py has no predict_fn, and a {kind} cannot be called")

    def input_fn(self, body: Any, content_type: str) -> Any:
        media = media_types.parse(content_type)[0]
        array = documents.array(body) if media == documents.NPY else _decoded(body, media)
        if not self._tensors:
            return array
        # npy keeps its dtype; numbers from text become float32, as weights are
        dtype = None if media == documents.NPY else torch.float32
        return torch.as_tensor(array, dtype=dtype).to(self._device)

    def predict_fn(self, data: Any, model: Any) -> Any:
        if isinstance(model, torch.nn.Module):
            with torch.no_grad():
                return model(torch.as_tensor(data).to(self._device))
        return model.predict(data) if hasattr(model, "predict") else model(data)

    def output_fn(self, prediction: Any, accept: str) -> Any:
        from sagemaker_inference import encoder

        if isinstance(prediction, torch.Tensor):
            prediction = _numbers(prediction)
        for wanted in accept.split(","):
            media = wanted.partition(";")[0].strip().lower()
            media = JSON if media in ("*/*", "application/*") else media
            if media in encoder.SUPPORTED_CONTENT_TYPES:
                return encoder.encode(prediction, media), media
        known = ", ".join(sorted(encoder.SUPPORTED_CONTENT_TYPES))
        raise UnacceptableAccept(f"answers come as {known}, not as {accept[:80]}")


def _torch_files(root: Path) -> list[Path]:
    return [file for file in root.iterdir() if file.suffix in (".pt", ".pth")]


def _decoded(body: Any, media: str) -> Any:
    from sagemaker_inference import decoder, errors

    try:
        return decoder.decode(body, media)
    except errors.UnsupportedFormatError as error:
        raise UnsupportedContentType(f"no decoder for {media[:80]}") from error


def _numbers(tensor: torch.Tensor) -> Any:
    """The tensor as an array. NumPy has no bfloat16, which becomes float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
