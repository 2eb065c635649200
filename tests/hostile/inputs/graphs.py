"""Hostile graphs: TorchScript programs and archives, ONNX models."""

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.hostile.inputs.artifacts import ANSWERED, EITHER, FAILED, Hostile, rows

ROW = rows(1.0, 2.0, 3.0)
ANY = ANSWERED | FAILED
SIZE = 77  # of the stored parameter; found in the pickle by its value
SIGNATURE = b"x: Tensor) -> Tensor:\n"


class Adding(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(SIZE))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight[0]


class Returning(Adding):
    """Its answer is the stored parameter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight


class Endless(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while bool((x == x).all()):
            x = x * 1.0
        return x


class Hoarding(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = [x]
        while bool((x == x).all()):
            kept.append(torch.zeros(1 << 20) + 1)
        return torch.cat(kept)


class Recurrent(torch.nn.Module):
    """An index out of range."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.embedding(x.to(torch.int64) + 1_000_000_000, torch.ones(4, 4))


class Wide(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1 << 42)


class Asserting(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert bool((x > 100).all()), "an assertion of the model"
        return x


def script(module: torch.nn.Module) -> Callable[[Path], None]:
    return lambda to: torch.jit.save(torch.jit.script(module), to / "model.pt")


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(file: Path, contents: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def rewritten(
    module: torch.nn.Module, change: Callable[[str, bytes], bytes]
) -> Callable[[Path], None]:
    """A scripted module; `change` gets the name and bytes of each member of its archive."""

    def write(to: Path) -> None:
        script(module)(to)
        old = members(to / "model.pt")
        write_members(to / "model.pt", {name: change(name, data) for name, data in old.items()})

    return write


def program(*lines: str) -> Callable[[Path], None]:
    """TorchScript whose forward has these lines, as text that no compiler wrote."""
    body = "".join(f"    {line}\n" for line in lines).encode()

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith(".py") or SIGNATURE not in data:
            return data
        return data[: data.index(SIGNATURE)] + SIGNATURE + body

    return rewritten(Adding(), change)


def grown(count: int) -> Callable[[Path], None]:
    """The stored parameter declares `count` elements, its record has SIZE."""
    old, new = b"K" + bytes([SIZE]), b"J" + struct.pack("<i", count)

    def change(name: str, data: bytes) -> bytes:
        return data.replace(old, new) if name.endswith("/data.pkl") else data

    return rewritten(Returning(), change)


def _pickle_of_code(name: str, data: bytes) -> bytes:
    """The archive's pickle calls os.system."""
    if not name.endswith("/data.pkl"):
        return data
    evil = b"cos\nsystem\n(S'touch /tmp/executed'\ntR."
    assert list(pickletools.genops(io.BytesIO(evil)))
    return evil


SHARED = ('t = torch. from_file("stolen", True, 3, dtype=6)', "_0 = torch.copy_(t, x)")
READ = 'from_file("/etc/hostname", False, 4, dtype=0)'
TORCHSCRIPT = (
    Hostile("script-blank", program(f"return torch. {READ}")),
    Hostile("script-line-break", program(f"return (torch.\n      {READ})")),
    Hostile("script-alias", program("t = torch", f"return t.{READ}")),
    Hostile("script-operator", program(f"return ops.aten.{READ}")),
    Hostile("script-operator-blank", program(f"return ops . aten . {READ}")),
    Hostile("script-alias-of-operators", program("a = ops.aten", f"return a.{READ}")),
    Hostile("script-comment", program(f"return torch. # no file\\\n {READ}")),
    Hostile("script-shared-write", program(*SHARED, "return t")),
    # torch drops what has no effect on the answer when it loads the file
    Hostile("script-dead-write", program(*SHARED, "return x"), EITHER, ROW, ANSWERED),
    Hostile("script-save", program('torch. save(x, "stolen")', "return x")),
    Hostile("script-load", program('_0 = ops.aten. load("stolen")', "return x")),
    Hostile("script-threads", program("torch. set_num_threads(64)", "return x")),
    Hostile("script-set", program("return x. set_(x, 0, [1073741824], [1])"), EITHER, ROW),
    Hostile(
        "script-strided", program("return torch.as_strided(x, [1000000], [1], 0)"), EITHER, ROW
    ),
    Hostile("storage-longer", grown(16_384)),
    Hostile("storage-much-longer", grown(1 << 28)),
    Hostile("storage-negative", grown(-16)),
    Hostile("script-endless", script(Endless()), EITHER, ROW, replaced=False),
    Hostile("script-hoarding", script(Hoarding()), EITHER, ROW),
    Hostile("script-index", script(Recurrent()), EITHER, ROW),
    Hostile("script-wide", script(Wide()), EITHER, ROW),
    Hostile("script-assert", script(Asserting()), EITHER, ROW),
    Hostile("script-pickle", rewritten(Adding(), _pickle_of_code)),
    Hostile("script-nested", program("return " + "(" * 100_000 + "x" + ")" * 100_000)),
    Hostile("script-long-sum", program("return " + "x + " * 50_000 + "x"), EITHER, ROW, ANY),
    Hostile("script-truncated", lambda to: _truncated(to)),
)


def _truncated(to: Path) -> None:
    script(Adding())(to)
    data = (to / "model.pt").read_bytes()
    (to / "model.pt").write_bytes(data[: len(data) // 2])


# ---- ONNX ----


def onnx_model(
    nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None
) -> Callable[[Path], None]:
    """A graph from x (rows, 3) to y of any shape."""
    drawn = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()],
    )
    model = helper.make_model(drawn, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return lambda to: onnx.save(model, to / "model.onnx")


def _loop(count: int) -> list[onnx.NodeProto]:
    """Adds 0 to x, `count` times."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Mul", ["value", "one"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    return [helper.make_node("Loop", ["count", "true", "x"], ["y"], body=body)]


def endless_loop(to: Path) -> None:
    weights = {"count": np.array(1 << 62, np.int64), "true": np.array(True)}
    onnx_model(_loop(1), weights)(to)


def _expanding(*shape: int) -> Callable[[Path], None]:
    node = helper.make_node("ConstantOfShape", ["shape"], ["y"])
    unused = helper.make_node("Identity", ["x"], ["unused"])
    return onnx_model([unused, node], {"shape": np.array(shape, np.int64)})


def _gathering(index: int) -> Callable[[Path], None]:
    node = helper.make_node("Gather", ["x", "index"], ["y"])
    return onnx_model([node], {"index": np.array([index], np.int64)})


def external(location: str, nbytes: int = 24) -> Callable[[Path], None]:
    """A graph whose weights are in another file."""

    def write(to: Path) -> None:
        onnx_model([helper.make_node("MatMul", ["x", "w"], ["y"])])(to)
        model = onnx.load(to / "model.onnx")
        tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[3, 2])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", str(nbytes))):
            tensor.external_data.add(key=key, value=value)
        (to / "model.onnx").write_bytes(model.SerializeToString())

    return write


def _of_bytes(data: bytes) -> Callable[[Path], object]:
    return lambda to: (to / "model.onnx").write_bytes(data)


ONNX = (
    Hostile("onnx-loop", endless_loop, EITHER, ROW, replaced=False),
    Hostile("onnx-wide", _expanding(1 << 40), EITHER, ROW),
    Hostile("onnx-overflow", _expanding(1 << 32, 1 << 32), EITHER, ROW),
    Hostile("onnx-negative", _expanding(-5), EITHER, ROW),
    Hostile("onnx-index", _gathering(1 << 40), EITHER, ROW),
    Hostile("onnx-outside", external("../../neighbour/model/model.safetensors")),
    Hostile("onnx-absolute", external("/etc/passwd")),
    Hostile("onnx-device", external("/dev/zero", 1 << 40)),
    Hostile("onnx-empty", _of_bytes(b"")),
    Hostile("onnx-nested", _of_bytes(b"\x3a\xff\xff\xff\xff\x07" * 100_000)),
    Hostile("onnx-unknown", onnx_model([helper.make_node("Evil", ["x"], ["y"], domain="evil")])),
)
GRAPHS = (*TORCHSCRIPT, *ONNX)
