"""Images and audio: as a request's whole body or as base64 inside JSON, never by URL or path.

Invariant: no URL is fetched and no path is opened. A transformers pipeline treats a text in place of an image
or audio as a URL or path; here every such text is base64 data.
"""

import base64
import binascii
import io
import shutil
import subprocess
import warnings
import wave
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from model_handler.artifacts.tasks import InputKind
from model_handler.budgets import deadlines
from model_handler.budgets.limits import check
from model_handler.errors import DeadlineExceeded, InvalidRequest, UnsupportedContentType
from model_handler.options import RequestLimits


@dataclass(frozen=True, slots=True)
class RawBody:
    """A binary body: an image, audio, or a body of unknown kind (`kind` None)."""

    data: bytes
    media: str
    kind: InputKind | None


_PICTURES = ("image", "images")
# Pillow warns above half of what it refuses
warnings.simplefilter("ignore", Image.DecompressionBombWarning)
_DEFAULTS = RequestLimits()


def materialise(
    inputs: Any, kind: InputKind, rate: int | None, limits: RequestLimits = _DEFAULTS
) -> Any:
    """`inputs` with its media decoded, for a task that takes `kind`.

    `rate`: sampling rate that the model expects, in samples per second.

    Raises UnsupportedContentType for a body of another kind, InvalidRequest for one that cannot be decoded.
    """
    if isinstance(inputs, RawBody):
        inputs = _body(inputs, kind, limits)
    if kind is InputKind.IMAGE:
        return _Pictures(limits).opened(inputs)
    return _sounds(inputs, rate or 16000, limits) if kind is InputKind.AUDIO else inputs


def _body(body: RawBody, kind: InputKind, limits: RequestLimits) -> Any:
    if kind is InputKind.TEXT or body.kind not in (kind, None):
        raise UnsupportedContentType(f"this task takes no {body.media[:80]}; send {_takes(kind)}")
    return image(body.data, limits) if kind is InputKind.IMAGE else body.data


def _takes(kind: InputKind) -> str:
    text = "application/json, text/csv, text/plain"
    return (
        text if kind is InputKind.TEXT else f"application/json, {kind}/*, application/octet-stream"
    )


def image(data: bytes, limits: RequestLimits = _DEFAULTS) -> Image.Image:
    """Decode an image, the first frame of an animated one.

    Raises InvalidRequest for an unknown format, and for a size in the header beyond the limit.
    """
    Image.MAX_IMAGE_PIXELS = limits.image_pixels // 2  # Pillow refuses twice as many
    try:
        opened = Image.open(io.BytesIO(data))
        check(limits, "image_pixels", opened.width * opened.height, "pixels in one image")
        return opened.convert("RGB")
    except InvalidRequest:
        raise
    # Pillow's decoders raise nearly anything on damaged files
    except Exception as error:  # noqa: BLE001
        raise InvalidRequest(f"this is not a readable image ({type(error).__name__})") from None


def _bytes(text: str, noun: str) -> bytes:
    data = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        message = f"{noun} inside JSON must be base64; URLs and paths are not followed"
        raise InvalidRequest(message) from None


class _Pictures:
    """The images of one request."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._pixels = 0

    def opened(self, inputs: Any) -> Any:
        if isinstance(inputs, str):
            return self._counted(image(_bytes(inputs, "an image"), self._limits))
        if isinstance(inputs, list):
            return [self.opened(item) for item in inputs]
        if isinstance(inputs, dict):
            return {
                key: self.opened(each) if key in _PICTURES else each for key, each in inputs.items()
            }
        if inputs is None or isinstance(inputs, bool | int | float):
            raise InvalidRequest("an image inside JSON must be base64")
        return inputs

    def _counted(self, opened: Image.Image) -> Image.Image:
        deadlines.check()
        self._pixels += opened.width * opened.height
        check(self._limits, "pixels", self._pixels, "pixels in all images")
        return opened


def _sounds(inputs: Any, rate: int, limits: RequestLimits) -> Any:
    deadlines.check()
    if isinstance(inputs, list):
        return [_sounds(item, rate, limits) for item in inputs]
    if isinstance(inputs, str):
        return _sound(_bytes(inputs, "audio"), rate, limits)
    if isinstance(inputs, bytes):
        return _sound(inputs, rate, limits)
    if isinstance(inputs, dict) and ("raw" in inputs or "array" in inputs):
        samples = _samples(inputs.get("raw", inputs.get("array")))
        check(limits, "audio_s", samples.size / rate, "seconds of audio")
        return _at_rate(samples, inputs.get("sampling_rate", rate), rate)
    raise InvalidRequest(
        'audio inside JSON is base64, or {"raw": [samples], "sampling_rate": number}'
    )


def _samples(values: Any) -> Any:
    try:
        samples = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidRequest('"raw" has to be a list of numbers') from None
    if samples.ndim != 1 or samples.size == 0:
        raise InvalidRequest('"raw" has to be one list of numbers, not empty')
    return samples


def _sound(data: bytes, rate: int, limits: RequestLimits) -> Any:
    """The samples, decoded by ffmpeg if it is installed; else of a WAV file only."""
    if program := shutil.which("ffmpeg"):
        return _decoded(program, data, rate, limits)
    try:
        with wave.open(io.BytesIO(data)) as file:
            _check_length(file, len(data), limits)
            samples = _pcm(file.readframes(file.getnframes()), file.getsampwidth())
            mono = samples.reshape(-1, file.getnchannels()).mean(axis=1, dtype=np.float32)
            own_rate = file.getframerate()
    except (wave.Error, EOFError, ValueError):
        raise InvalidRequest(
            "without ffmpeg only WAV files with whole-number samples are read"
        ) from None
    return _at_rate(mono, own_rate, rate)


def _check_length(file: wave.Wave_read, nbytes: int, limits: RequestLimits) -> None:
    """By the header; a stream's header may claim more frames than the file has."""
    frames = min(file.getnframes(), nbytes // (file.getnchannels() * file.getsampwidth()))
    check(limits, "audio_s", frames / max(file.getframerate(), 1), "seconds of audio")


def _decoded(program: str, data: bytes, rate: int, limits: RequestLimits) -> Any:
    """Decode as the pipelines do, but not more than the limit and one second."""
    options = ["-ac", "1", "-ar", str(rate), "-f", "f32le", "-t", str(limits.audio_s + 1)]
    command = [program, "-i", "pipe:0", *options, "-hide_banner", "-loglevel", "quiet", "pipe:1"]
    try:
        done = subprocess.run(
            command, input=data, stdout=subprocess.PIPE, check=False, timeout=deadlines.left_s()
        )
    except subprocess.TimeoutExpired:
        raise DeadlineExceeded("the time for this request ran out while decoding audio") from None
    samples = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], np.float32)
    if samples.size == 0:
        raise InvalidRequest("this is not audio that ffmpeg reads")
    check(limits, "audio_s", samples.size / rate, "seconds of audio")
    return samples


def _pcm(frames: bytes, width: int) -> Any:
    if width == 1:  # WAV stores only this width as unsigned
        return (np.frombuffer(frames, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        padded = np.zeros((len(frames) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(frames, np.uint8).reshape(-1, 3)
        return padded.view("<i4").ravel().astype(np.float32) / 2**31
    return np.frombuffer(frames, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)


def _at_rate(samples: Any, own_rate: Any, rate: int) -> Any:
    if own_rate != rate:
        raise InvalidRequest(f"the audio has {own_rate} samples per second, the model takes {rate}")
    if samples.size == 0:
        raise InvalidRequest("the audio is empty")
    return samples
