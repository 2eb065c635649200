"""The parameters that a request may set, by task: an allow-list of names, and bounds for `generate`."""

from collections.abc import Mapping
from typing import Any

from model_handler.errors import InvalidRequest
from model_handler.handlers import bounds
from model_handler.handlers.task_parameters import CHOICES, TASK_PARAMETERS

# Parameters that contain parameters of the tokenizer and of `generate`
_TOKENIZING = ("tokenizer_kwargs", "tokenize_kwargs")
_GENERATING = ("generate_kwargs", "forward_params")
# Parameters that name tokens. Models of sound have no processor that ensures that one is left to choose
_OF_TEXT = {
    *("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias"),
    *("forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"),
}


def accepted(given: Mapping[str, Any], family: str, vocabulary: int) -> dict[str, Any]:
    """Checked parameters with the task's defaults, in the form the pipeline takes. Raises InvalidRequest."""
    task = TASK_PARAMETERS[family]
    if task.required and not given.get(task.required):
        raise InvalidRequest(f"{family} needs the parameter {task.required!r}")
    for name in given:
        if name not in task.allowed:
            allowed = ", ".join(sorted(task.allowed)) or "none"
            raise InvalidRequest(f"{family} takes no {name[:60]!r}; it takes {allowed}")
    _check_choices(given)
    _check_nested(given, family)
    direct = bounds.PARAMETERS if task.generates else frozenset()
    return {**task.defaults, **_settled(given, direct, vocabulary)}


def asks(given: Mapping[str, Any]) -> bool:
    """Whether any of the parameters affects the forward."""
    return not given.keys().isdisjoint(bounds.PARAMETERS | set(_GENERATING))


def _settled(given: Mapping[str, Any], direct: frozenset[str], vocabulary: int) -> dict[str, Any]:
    """`direct`: names that the pipeline passes to `generate` unchanged."""
    nested = {name: given[name] for name in _GENERATING if given.get(name)}
    generate = {name: each for name, each in given.items() if name in direct}
    whole = dict(generate)
    for each in nested.values():
        whole |= each
    bounds.check(whole, vocabulary)
    rest = {name: each for name, each in given.items() if name not in direct}
    inner = {name: bounds.settled(each) for name, each in nested.items()}
    return {**rest, **bounds.settled(generate), **inner}


def _check_nested(given: Mapping[str, Any], family: str) -> None:
    """Apply the allow-lists to nested parameters, which would bypass them otherwise."""
    tokenizing = [given.get(name) for name in _TOKENIZING]
    _check_keys(tokenizing, TASK_PARAMETERS["text-classification"].allowed)
    generating = bounds.PARAMETERS - (_OF_TEXT if family == "text-to-audio" else set())
    _check_keys([given.get(name) for name in _GENERATING], generating)
    _check_keys([given.get("preprocess_params")], frozenset({"voice_preset"}))


def _check_choices(given: Mapping[str, Any]) -> None:
    for name, choices in CHOICES.items():
        if name in given and str(given[name]).lower() not in choices:
            raise InvalidRequest(f"{name} has to be one of {', '.join(choices)}")


def _check_keys(nested: list[Any], allowed: frozenset[str]) -> None:
    for parameters in nested:
        if not isinstance(parameters, dict | None):
            raise InvalidRequest("nested parameters must be objects")
        for name in parameters or {}:
            if name not in allowed:
                raise InvalidRequest(f"there is no parameter {name[:60]!r}")
