"""Type and range of each parameter of `generate` that a caller may set.

On a GPU a value out of range does not fail just its request: a temperature of 1e-40 makes a distribution of
NaN, and sampling from one, like an index out of range, is a device-side assert that ends the worker process
of all models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model_handler.errors import InvalidRequest

MANY = 1_000_000
UNKNOWN = 2**31  # vocabulary size of a model that does not declare one
BEAMS = 64  # each beam is one more row on the device
SEQUENCES = 10_000  # limit of banned or biased token sequences


@dataclass(frozen=True, slots=True)
class Number:
    """`or_zero`: 0 is allowed although it is outside the range."""

    low: float
    high: float
    whole: bool = False
    or_zero: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raises InvalidRequest. Infinities and NaN are outside every range."""
        fits = type(value) is int or (type(value) is float and not self.whole)
        if not fits or not (self.low <= value <= self.high or (self.or_zero and value == 0)):
            raise InvalidRequest(f"{name} has to be {self}")

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        zero = ", or 0" if self.or_zero else ""
        return f"{kind} from {_plain(self.low)} to {_plain(self.high)}{zero}"


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else str(bound)


_COUNT = Number(0, MANY, whole=True)
_LENGTH = Number(1, MANY, whole=True)
_BEAMS = Number(1, BEAMS, whole=True)
_SHARE = Number(0, 1)
_SOME = Number(0.001, 1)  # a share that keeps at least some tokens
_PENALTY = Number(0.01, 100)
_BIAS = Number(-10_000, 10_000)
_FACTOR = Number(0.01, 100)

NUMBERS = {
    "max_length": _LENGTH,
    "max_new_tokens": _LENGTH,
    "min_length": _COUNT,
    "min_new_tokens": _COUNT,
    "no_repeat_ngram_size": _COUNT,
    "encoder_no_repeat_ngram_size": _COUNT,
    "num_beams": _BEAMS,
    "num_return_sequences": _BEAMS,
    "max_time": Number(0.001, 86_400),
    "temperature": Number(0.01, 100, or_zero=True),
    "top_k": _COUNT,
    "top_p": _SHARE,
    "min_p": _SHARE,
    "top_h": _SOME,
    "typical_p": _SOME,
    "epsilon_cutoff": _SHARE,
    "eta_cutoff": _SHARE,
    "repetition_penalty": _PENALTY,
    "encoder_repetition_penalty": _PENALTY,
    "length_penalty": Number(-10, 10),
    "guidance_scale": Number(0, 100),
}
_SWITCHES = ("do_sample", "use_cache", "renormalize_logits", "remove_invalid_values")
_TOKEN = ("pad_token_id", "bos_token_id", "decoder_start_token_id", "forced_bos_token_id")
_TOKENS = ("eos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens")
# Defaults of an artifact that could cause a device-side assert. Lengths are not among them: they are cut to
# what fits
_OF_DEFAULTS = NUMBERS.keys() - {"max_length", "max_new_tokens", "min_length", "min_new_tokens"}
_TOKENS_OF_DEFAULTS = ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id")


def check(parameters: Mapping[str, Any], vocabulary: int) -> None:
    """Raises InvalidRequest, naming parameter and range, for values that `generate` must not get."""
    for name, value in parameters.items():
        if value is not None:
            _check_one(name, value, vocabulary)
    _check_tokens_remain(parameters, vocabulary)


def check_defaults(defaults: Mapping[str, Any], vocabulary: int) -> None:
    """Raises InvalidRequest for defaults in an artifact that `generate` must not get."""
    tokens = _TOKENS_OF_DEFAULTS if vocabulary < UNKNOWN else ()
    checked = {*_OF_DEFAULTS, *tokens, "exponential_decay_length_penalty"}
    check({name: defaults[name] for name in defaults.keys() & checked}, vocabulary)


def unknown_tokens(defaults: Mapping[str, Any], vocabulary: int) -> list[str]:
    """Names of the padding and beginning tokens outside the vocabulary: some artifacts use `-1` for none."""
    given = {name: defaults.get(name) for name in ("pad_token_id", "bos_token_id")}
    return [
        name
        for name, token in given.items()
        if token is not None and not _is_token(token, vocabulary)
    ]


def _check_one(name: str, value: Any, vocabulary: int) -> None:
    if name in NUMBERS:
        NUMBERS[name].check(name, value)
    elif name in _SWITCHES:
        _require(type(value) is bool, f"{name} has to be true or false")
    elif name in _TOKEN:
        _check_tokens(name, [value], vocabulary)
    elif name in _TOKENS:
        _check_tokens(name, value if isinstance(value, list) else [value], vocabulary)
    elif name in _OTHERS:
        _OTHERS[name](name, value, vocabulary)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise InvalidRequest(otherwise)


def _check_tokens(name: str, tokens: list[Any], vocabulary: int) -> None:
    _require(vocabulary < UNKNOWN, f"{name} cannot be given: this model's tokens are not known")
    fits = bool(tokens) and all(_is_token(token, vocabulary) for token in tokens)
    _require(fits, f"{name} has to name tokens from 0 to {vocabulary - 1}")


def _is_token(token: Any, vocabulary: int) -> bool:
    return type(token) is int and 0 <= token < vocabulary


def _check_early_stopping(name: str, value: Any, vocabulary: int) -> None:
    fits = type(value) is bool or value == "never"
    _require(fits, f'{name} has to be true, false or "never"')


def _check_decay(name: str, value: Any, vocabulary: int) -> None:
    fits = isinstance(value, list | tuple) and len(value) == 2
    _require(fits, f"{name} has to be [start, factor]")
    _COUNT.check(f"the start of {name}", value[0])
    _FACTOR.check(f"the factor of {name}", value[1])


def _check_bad_words(name: str, value: Any, vocabulary: int) -> None:
    _check_sequences(name, value, "lists of tokens")
    for tokens in value:
        _require(isinstance(tokens, list), f"{name} has to be lists of tokens")
        _check_tokens(name, tokens, vocabulary)


def _check_biases(name: str, value: Any, vocabulary: int) -> None:
    form = "pairs of [tokens, bias]"
    _check_sequences(name, value, form)
    for pair in value:
        fits = isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], list)
        _require(fits, f"{name} has to be {form}")
        _check_tokens(name, pair[0], vocabulary)
        _BIAS.check(f"a bias of {name}", pair[1])


def _check_sequences(name: str, value: Any, form: str) -> None:
    fits = isinstance(value, list) and 0 < len(value) <= SEQUENCES
    _require(fits, f"{name} has to be a list of 1 to {SEQUENCES} {form}")


_OTHERS: dict[str, Callable[[str, Any, int], None]] = {
    "early_stopping": _check_early_stopping,
    "exponential_decay_length_penalty": _check_decay,
    "bad_words_ids": _check_bad_words,
    "sequence_bias": _check_biases,
}


# An allow-list: the other parameters that `generate` takes are objects, files or code to fetch
PARAMETERS = frozenset({*NUMBERS, *_SWITCHES, *_TOKEN, *_TOKENS, *_OTHERS})


def _check_tokens_remain(parameters: Mapping[str, Any], vocabulary: int) -> None:
    names = [each for each in ("suppress_tokens", "begin_suppress_tokens") if parameters.get(each)]
    banned: set[int] = set()
    for name in names:
        banned.update(
            parameters[name] if isinstance(parameters[name], list) else [parameters[name]]
        )
    if len(banned) >= vocabulary:
        raise InvalidRequest(f"{' and '.join(names)} leave none of the {vocabulary} tokens")


def settled(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Checked parameters converted for `generate`.

    It requires floats where whole numbers are allowed here, and has no temperature of 0, which means greedy
    decoding.
    """
    given = {name: _as_taken(name, value) for name, value in parameters.items()}
    if given.get("temperature") == 0:
        del given["temperature"]
        given["do_sample"] = False
    return given


def _as_taken(name: str, value: Any) -> Any:
    if name in ("suppress_tokens", "begin_suppress_tokens") and type(value) is int:
        return [value]
    number = NUMBERS.get(name)
    if number is not None and not number.whole and type(value) is int:
        return float(value)
    if name == "sequence_bias" and value is not None:
        return [[tokens, float(bias)] for tokens, bias in value]
    return value
