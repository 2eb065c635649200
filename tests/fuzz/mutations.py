"""Mutations of valid documents that keep most of their structure: JSON, safetensors, archives, bytes.

All draw from hypothesis, so that a seed gives the same inputs again.
"""

import copy
import json
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[st.SearchStrategy[Any]], Any]
Place = tuple[Any, Any]  # a dict or a list, and a key or an index of it

NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    7,
    64,
    255,
    65_536,
    1 << 31,
    -(1 << 31),
    1 << 32,
    1 << 53,
    1 << 62,
    1 << 63,
    10**30,
)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1e-40, 1e-300, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    " ",
    "a",
    "\0",
    "\ud7ff",
    "../x",
    "/etc/passwd",
    "{}",
    "{:999}",
    "(a+)+$",
    "[MASK]",
    "é" * 50,
    "x" * 5000,
)
LITTLE = 3  # mutations of one input at most


def value(other: Any) -> st.SearchStrategy[Any]:
    """A value in place of `other`: mostly of the same type, sometimes of another."""
    numbers = st.sampled_from(NUMBERS) | st.integers(-10, 100)
    kinds: list[st.SearchStrategy[Any]] = [
        numbers,
        st.sampled_from(FLOATS),
        st.sampled_from(TEXTS) | st.text(max_size=20),
        st.booleans() | st.none(),
        st.sampled_from(([], {}, [[]], [None], {"a": {}}, [0] * 5000, {"inputs": []})),
    ]
    alike = st.just(other)
    if isinstance(other, bool):
        alike = st.booleans()
    elif isinstance(other, int):
        alike = numbers | st.integers(-3, 3).map(lambda step: other + step)
    elif isinstance(other, float):
        alike = kinds[1] | st.floats(width=32)
    elif isinstance(other, str):
        alike = kinds[2] | st.integers(0, 3000).map(lambda times: other * times)
    elif isinstance(other, list):
        alike = st.sampled_from([[], other * 2, other[:-1], other[::-1], other * 300, [other]])
    return alike | st.one_of(kinds)


def places(document: Any) -> list[Place]:
    """All places of a document, parents first; of long lists only the first items."""
    found: list[Place] = []
    waiting = [document]
    while waiting and len(found) < 3000:
        node = waiting.pop(0)
        keys = list(node) if isinstance(node, dict) else range(min(len(node), 8))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                waiting.append(node[key])
    return found


def document(draw: Draw, valid: Any) -> Any:
    """A copy with a few values replaced, removed, renamed, swapped or nested."""
    changed = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, LITTLE))):
        if not isinstance(changed, dict | list) or not (all_places := places(changed)):
            return draw(value(changed))
        node, key = draw(st.sampled_from(all_places))
        _apply(draw, node, key, all_places)
    return changed


def _apply(draw: Draw, node: Any, key: Any, all_places: list[Place]) -> None:
    match draw(
        st.sampled_from(("replace", "replace", "replace", "remove", "add", "other", "nest"))
    ):
        case "replace":
            node[key] = draw(value(node[key]))
        case "remove":
            del node[key]
        case "add" if isinstance(node, dict):
            node[draw(st.sampled_from(TEXTS))] = copy.deepcopy(node[key])
        case "add":
            node.insert(key, copy.deepcopy(node[key]))
        case "other":
            other, place = draw(st.sampled_from(all_places))
            node[key] = copy.deepcopy(other[place]) if _has(other, place) else None
        case "nest":
            for _ in range(draw(st.sampled_from((1, 2, 50, 400)))):
                node[key] = [node[key]] if isinstance(node, list) else {"a": node[key]}


def _has(node: Any, key: Any) -> bool:
    return key in node if isinstance(node, dict) else key < len(node)


def json_text(draw: Draw, valid: bytes) -> bytes:
    """A JSON file with a few changes, mostly in its structure, sometimes in its bytes."""
    if draw(st.integers(0, 9)) == 0:
        return raw(draw, valid)
    return json.dumps(document(draw, json.loads(valid))).encode("utf-8", "surrogatepass")


def raw(draw: Draw, valid: bytes) -> bytes:
    """Bytes removed, repeated, overwritten or cut off."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, LITTLE))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        end = start + draw(st.integers(0, 64))
        match draw(st.sampled_from(("cut", "remove", "repeat", "overwrite", "number"))):
            case "cut":
                del data[start:]
            case "remove":
                del data[start:end]
            case "repeat":
                data[start:start] = data[start:end] * draw(st.integers(1, 200))
            case "overwrite":
                data[start:end] = draw(st.binary(max_size=64))
            case "number":
                order = draw(st.sampled_from(("<q", ">q", "<i", ">i")))
                bound = 1 << (63 if order.endswith("q") else 31)
                chosen = draw(st.sampled_from([n for n in NUMBERS if -bound <= n < bound]))
                data[start : start + struct.calcsize(order)] = struct.pack(order, chosen)
    return bytes(data)


def safetensors(draw: Draw, valid: bytes) -> bytes:
    """A changed header with a right length before it, or changed bytes."""
    if draw(st.integers(0, 4)) == 0:
        return raw(draw, valid)
    (length,) = struct.unpack_from("<Q", valid)
    header = json_text(draw, valid[8 : 8 + length])
    data = valid[8 + length :]
    if draw(st.integers(0, 3)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return struct.pack("<Q", len(header)) + header + data


def lines(draw: Draw, valid: bytes) -> bytes:
    """serving.properties: `key=value` lines with other values, or one more."""
    pairs = [line.partition("=") for line in valid.decode().splitlines()]
    keys = [*PROPERTY_NAMES, *(key for key, _, _ in pairs)]
    key = draw(st.sampled_from(keys))
    text = draw(
        st.sampled_from([str(each) for each in (*NUMBERS, *FLOATS, *TEXTS, *PROPERTY_VALUES)])
    )
    kept = [f"{name}={each}" for name, _, each in pairs if name != key]
    return "\n".join([*kept, f"{key}={text}"]).encode("utf-8", "replace")


PROPERTY_NAMES = (
    *("option.convention", "option.task", "option.dtype", "option.isolation", "option.concurrency"),
    *("option.scheduling_weight", "batch_size", "max_batch_delay", "job_queue_size"),
    *("required_memory_mb", "gpu.required_memory_mb"),
)
PROPERTY_VALUES = (
    *(
        "own",
        "shared",
        "huggingface",
        "onnx",
        "skops",
        "xgboost",
        "torchscript",
        "export",
        "inference",
    ),
    *(
        "text-classification",
        "question-answering",
        "text-generation",
        "fp16",
        "bf16",
        "9" * 400,
        "9" * 5000,
    ),
)
