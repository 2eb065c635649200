"""Mutations of the formats that are no JSON: TorchScript and skops archives, UBJ, ONNX."""

import io
import json
import struct
import zipfile
from typing import Any

import onnx
from hypothesis import strategies as st

from tests.fuzz.mutations import NUMBERS, Draw, document, json_text, raw

# Text in a TorchScript program, and what may stand in its place
SNIPPETS = (
    *(
        "torch.add",
        "torch.mul",
        "torch.matmul",
        "torch. from_file",
        "ops.aten.from_file",
        "torch.empty",
    ),
    *(
        "torch.as_strided",
        "torch.reshape",
        "torch.sum",
        "torch.save",
        "torch.select",
        "torch.repeat_interleave",
    ),
    *(
        "annotate",
        "uninitialized",
        "self.weight",
        "self.training",
        "x",
        "None",
        "True",
        "[]",
        "0",
        "-1",
    ),
    *(
        "4611686018427387904",
        "1e308",
        "return x",
        "while True:",
        "raise",
        "(",
        ")",
        "\n",
        "\\\n",
        ".",
        " ",
    ),
)


def archive(draw: Draw, valid: bytes) -> bytes:
    """One member of a ZIP archive changed according to its kind, removed, or renamed."""
    if draw(st.integers(0, 9)) == 0:
        return raw(draw, valid)
    with zipfile.ZipFile(io.BytesIO(valid)) as opened:
        contents = {info.filename: opened.read(info) for info in opened.infolist()}
        compressed = opened.infolist()[0].compress_type
    name = draw(st.sampled_from(sorted(contents)))
    match draw(st.sampled_from(("change", "change", "change", "change", "remove", "rename"))):
        case "change":
            contents[name] = _member(draw, name, contents[name])
        case "remove":
            del contents[name]
        case "rename":
            other = draw(st.sampled_from(("../" + name, name.upper(), "/etc/x", "a" * 300, "\n")))
            contents[other] = contents.pop(name)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compressed) as written:
        for each, data in contents.items():
            written.writestr(each, data)
    return buffer.getvalue()


def _member(draw: Draw, name: str, data: bytes) -> bytes:
    if name.endswith((".json", ".debug_pkl")) and data.startswith(b"{"):
        return json_text(draw, data)
    return program(draw, data) if name.endswith(".py") else raw(draw, data)


def program(draw: Draw, text: bytes) -> bytes:
    """A program with one of its words replaced, or a snippet put in."""
    words = text.decode().split(" ")
    for _ in range(draw(st.integers(1, 2))):
        index = draw(st.integers(0, len(words) - 1))
        words[index] = draw(st.sampled_from((*SNIPPETS, *words)))
    return " ".join(words).encode()


# ---- XGBoost's UBJ ----


def ubj(draw: Draw, valid: bytes) -> bytes:
    """`valid`: the same model as JSON. Mostly a sound encoding of a changed model."""
    if draw(st.integers(0, 3)) == 0:
        return raw(draw, encoded(json.loads(valid)))
    return encoded(document(draw, json.loads(valid)))


def encoded(node: Any) -> bytes:
    match node:
        case None:
            return b"Z"
        case bool():
            return b"T" if node else b"F"
        case int():
            bounded = max(-(1 << 63), min(node, (1 << 63) - 1))
            return b"L" + struct.pack(">q", bounded)
        case float():
            return b"D" + struct.pack(">d", node)
        case str():
            return b"S" + _text(node)
        case list():
            return b"[" + b"".join(map(encoded, node)) + b"]"
        case dict():
            pairs = (_text(str(key)) + encoded(each) for key, each in node.items())
            return b"{" + b"".join(pairs) + b"}"
    raise TypeError(type(node))


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    return b"L" + struct.pack(">q", len(data)) + data


# ---- ONNX ----


def graph(draw: Draw, valid: bytes) -> bytes:
    if draw(st.integers(0, 4)) == 0:
        return raw(draw, valid)
    model = onnx.load_from_string(valid)
    for _ in range(draw(st.integers(1, 3))):
        _change_graph(draw, model.graph)
    return bytes(model.SerializeToString())


OPERATORS = (
    *(
        "Add",
        "MatMul",
        "Gather",
        "Reshape",
        "Tile",
        "Expand",
        "Pad",
        "ConstantOfShape",
        "Resize",
        "Loop",
    ),
    *(
        "If",
        "Scan",
        "NonZero",
        "Range",
        "Conv",
        "LSTM",
        "Einsum",
        "TopK",
        "Split",
        "Identity",
        "Unsqueeze",
    ),
)


def _change_graph(draw: Draw, drawn: onnx.GraphProto) -> None:
    match draw(st.sampled_from(("operator", "edge", "weight", "shape", "node", "attribute"))):
        case "operator":
            draw(st.sampled_from(list(drawn.node))).op_type = draw(st.sampled_from(OPERATORS))
        case "edge":
            node = draw(st.sampled_from(list(drawn.node)))
            names = [*node.input, *node.output, "x", "y", "nothing", ""]
            node.input[draw(st.integers(0, len(node.input) - 1))] = draw(st.sampled_from(names))
        case "weight" if drawn.initializer:
            weight = draw(st.sampled_from(list(drawn.initializer)))
            weight.raw_data = raw(draw, weight.raw_data)
            if draw(st.booleans()):
                weight.dims[0] = draw(st.sampled_from([n for n in NUMBERS if abs(n) < 1 << 62]))
        case "shape":
            shape = drawn.input[0].type.tensor_type.shape.dim
            shape[-1].dim_value = draw(st.sampled_from([n for n in NUMBERS if abs(n) < 1 << 62]))
        case "node":
            drawn.node.add().CopyFrom(draw(st.sampled_from(list(drawn.node))))
        case _:
            attribute = draw(st.sampled_from(list(drawn.node))).attribute.add()
            attribute.name = draw(st.sampled_from(("axis", "to", "axes", "mode", "k", "body")))
            attribute.type = onnx.AttributeProto.INT
            attribute.i = draw(st.sampled_from([n for n in NUMBERS if abs(n) < 1 << 62]))
