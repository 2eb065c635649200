"""JSON bodies and query parameters of requests, validated; and the pages of a long list."""

import re
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from urllib.parse import parse_qsl

import msgspec

from container.http import names
from model_handler.errors import InvalidRequest
from model_handler.model import ModelInfo

MAX_URL_CHARS = 4096
MAX_PAGE = 100
MAX_PARAMETERS = 100
_NUMBER = re.compile(r"[0-9]{1,9}")


class LoadRequest(msgspec.Struct, frozen=True):
    """The body of `POST /models`. Other fields are ignored: the platform may add some."""

    model_name: str
    url: str


class Page(msgspec.Struct, frozen=True):
    """`after`: the last name of the page before, None for the first page."""

    limit: int = MAX_PAGE
    after: str | None = None


_load_requests = msgspec.json.Decoder(LoadRequest)


def load_request(body: bytes) -> LoadRequest:
    """Raises InvalidRequest for any other bytes."""
    try:
        request = _load_requests.decode(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequest(f"POST /models: {error}") from None
    except RecursionError:
        raise InvalidRequest("POST /models: JSON nested too deeply") from None
    names.check(request.model_name)
    if not 0 < len(request.url) <= MAX_URL_CHARS or not names.is_text(request.url):
        raise InvalidRequest(f"url must be a path of 1 to {MAX_URL_CHARS} printable characters")
    return request


def page(query: bytes) -> Page:
    """Raises InvalidRequest for a limit that is no number from 1, or a token that `token` did not make."""
    parameters = _parameters(query)
    return Page(
        limit=_limit(parameters.get("limit")),
        after=_name_in(parameters.get("next_page_token")),
    )


def _parameters(query: bytes) -> dict[str, str]:
    """The first value of each parameter."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS
        )
    except ValueError:
        raise InvalidRequest(f"more than {MAX_PARAMETERS} query parameters") from None
    return dict(reversed(pairs))


def _limit(text: str | None) -> int:
    if text is None:
        return MAX_PAGE
    if not _NUMBER.fullmatch(text) or int(text) == 0:
        raise InvalidRequest(f"limit must be a number from 1, at most {MAX_PAGE} are returned")
    return min(int(text), MAX_PAGE)


def token(name: str) -> str:
    """Opaque to callers. Has a checksum, so that an invented token is recognised."""
    raw = name.encode()
    return urlsafe_b64encode(zlib.crc32(raw).to_bytes(4, "big") + raw).decode("ascii")


def _name_in(text: str | None) -> str | None:
    if not text:
        return None
    try:
        raw = urlsafe_b64decode(text.encode("ascii"))
        name = raw[4:].decode()
    except ValueError:
        name = ""
    if not name or token(name) != text:
        raise InvalidRequest("next_page_token was not issued by this server")
    return name


def cut(models: Sequence[ModelInfo], wanted: Page) -> tuple[Sequence[ModelInfo], str | None]:
    """One page of a list sorted by name, and the token of the next one if there is more."""
    after = wanted.after
    rest = models if after is None else [model for model in models if model.name > after]
    chosen = rest[: wanted.limit]
    more = len(rest) > len(chosen)
    return chosen, token(chosen[-1].name) if more else None
