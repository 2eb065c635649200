"""How much text a request has, and the parameters that multiply it."""

from collections.abc import Iterator, Mapping
from typing import Any

from model_handler.budgets.limits import check
from model_handler.errors import InvalidRequest
from model_handler.options import RequestLimits

_SINGLE = frozenset({str, int, float, bool})


def leaves(value: Any) -> Iterator[Any]:
    """All values inside nested lists and mappings, and the keys of the mappings."""
    pending = [value]
    while pending:
        each = pending.pop()
        if type(each) in _SINGLE:  # the frequent case, and Mapping is slow to compare with
            yield each
        elif isinstance(each, Mapping):
            pending += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple):
            pending += each
        else:
            yield each


def characters(value: Any) -> int:
    """Characters of all texts inside nested lists and mappings."""
    if isinstance(value, str):
        return len(value)
    return sum(len(each) for each in leaves(value) if isinstance(each, str))


def check_texts(inputs: Any, parameters: Mapping[str, Any], limits: RequestLimits) -> None:
    """The texts of the parameters count once for each of the inputs."""
    items = max(1, len(inputs)) if isinstance(inputs, list) else 1
    count = characters(inputs) + items * characters(list(parameters.values()))
    check(limits, "text_characters", count, "characters")


def check_labels(inputs: Any, parameters: Mapping[str, Any], limits: RequestLimits) -> None:
    """Zero-shot tasks: each input is combined with each label, all as long as the longest."""
    template = parameters.get("hypothesis_template")
    if template is not None:
        check_template(template)
    labels = _labels(parameters.get("candidate_labels"))
    items = inputs if isinstance(inputs, list) else [inputs]
    check(limits, "units", len(items) * len(labels), "combinations of inputs and labels")
    longest = max((len(each) for each in labels if isinstance(each, str)), default=0)
    longest += len(template or "")
    count = len(labels) * (characters(items) + len(items) * longest)
    check(limits, "text_characters", count, "characters, the labels of each input included")


def _labels(given: Any) -> list[Any]:
    if isinstance(given, str):
        return given.split(",")
    return given if isinstance(given, list) else []


def check_template(template: Any) -> None:
    """A plain `{}` once: other fields of a format string read attributes, or pad to any width."""
    plain = isinstance(template, str) and template.count("{}") == 1
    if not plain or template.count("{") != 1 or template.count("}") != 1:
        raise InvalidRequest("hypothesis_template has to be a text with {} once, for the label")
