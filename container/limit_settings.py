"""The settings that limit what one request may ask for."""

import dataclasses
from dataclasses import dataclass

from container import variables
from container.environment import variable
from model_handler.options import RequestLimits

_LIMITS = RequestLimits()
_count = variables.number(1, 10**12)


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """A part of Settings: the fields of RequestLimits."""

    units: int = variable(
        _LIMITS.units,
        "MME_MAX_UNITS",
        parse=_count,
        text="largest number of rows that a request may make for the model: texts × labels, windows of a"
        " long text or of audio, images",
    )
    text_characters: int = variable(
        _LIMITS.text_characters,
        "MME_MAX_TEXT",
        parse=_count,
        text="largest number of characters of a request's texts; a text that is repeated for each"
        " label counts each time",
    )
    tokens: int = variable(
        _LIMITS.tokens,
        "MME_MAX_TOKENS",
        parse=_count,
        text="largest number of tokens of a request, with overlaps and padding",
    )
    generated_tokens: int = variable(
        _LIMITS.generated_tokens,
        "MME_MAX_GENERATED_TOKENS",
        parse=_count,
        text="largest number of new tokens of a request: tokens × beams or returned"
        " sequences × texts",
    )
    image_pixels: int = variable(
        _LIMITS.image_pixels,
        "MME_MAX_IMAGE_PIXELS",
        parse=_count,
        text="largest number of pixels of one image",
    )
    pixels: int = variable(
        _LIMITS.pixels,
        "MME_MAX_PIXELS",
        parse=_count,
        text="largest number of pixels of all images of a request",
    )
    audio_s: int = variable(
        _LIMITS.audio_s,
        "MME_MAX_AUDIO",
        parse=_count,
        text="longest audio of a request, in seconds; its windows may have four times as much, with"
        " overlaps and padding",
    )
    values: int = variable(
        _LIMITS.values,
        "MME_MAX_VALUES",
        parse=_count,
        text="largest number of values in a JSON body, and of cells in a table or array; answers may"
        " have four times as many",
    )

    @property
    def limits(self) -> RequestLimits:
        names = (field.name for field in dataclasses.fields(RequestLimits))
        return RequestLimits(**{name: getattr(self, name) for name in names})
