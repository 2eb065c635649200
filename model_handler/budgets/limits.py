"""Compare what a request asks for with the limits of `RequestLimits`."""

from model_handler.errors import InvalidRequest
from model_handler.options import RequestLimits

SETTINGS = {
    "units": "MME_MAX_UNITS",
    "text_characters": "MME_MAX_TEXT",
    "tokens": "MME_MAX_TOKENS",
    "generated_tokens": "MME_MAX_GENERATED_TOKENS",
    "image_pixels": "MME_MAX_IMAGE_PIXELS",
    "pixels": "MME_MAX_PIXELS",
    "audio_s": "MME_MAX_AUDIO",
    "values": "MME_MAX_VALUES",
}
# Windows of audio with overlaps and padding, maps of an image's size, values of an answer: this many times
# the limit on what they are made from
EXPANSION = 4


def check(limits: RequestLimits, name: str, count: float, what: str, *, times: int = 1) -> None:
    """Raises InvalidRequest if `count` is more than `times` the limit. `what`: the noun for the count."""
    limit = getattr(limits, name) * times
    if count > limit:
        raise InvalidRequest(
            f"the request asks for {count:.15g} {what}, the limit is {limit} ({SETTINGS[name]})"
        )
