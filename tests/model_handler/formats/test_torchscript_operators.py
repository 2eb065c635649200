"""TorchScript programs run beside other models only if each of their operators is known to be harmless."""

import json
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from model_handler.artifacts.conventions import Convention
from model_handler.device.device import CpuDevice
from model_handler.errors import ModelLoadFailed
from model_handler.loading.formats import FormatLoader
from tests.model_handler.formats import builders
from tests.model_handler.formats.tables import answered, failure, opened
from tests.model_handler.harness import refusal

FILE = '"/etc/hostname"'


def program(path: Path, body: str, more: str = "") -> Path:
    """A module with this forward, as source text in the archive, as an attacker would write it."""
    builders.torchscript(path, nn.Identity())
    lines = textwrap.indent(textwrap.dedent(body), " " * 4)
    source = (
        "class Identity(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n"
        "  _is_full_backward_hook : Optional[bool]\n"
        "  def forward(self: __torch__.torch.nn.modules.linear.Identity,\n    x: Tensor) -> Tensor:\n"
        f"{lines}\n    return x\n{more}"
    )
    with zipfile.ZipFile(path / "model.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path / "model.pt", "w") as archive:
        for name, content in members.items():
            if name.endswith("linear.py.debug_pkl"):
                continue
            archive.writestr(name, source if name.endswith("linear.py") else content)
    return path


class Unused(nn.Module):
    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def refused(path: Path) -> str:
    return failure(path, Convention.TORCHSCRIPT)


@pytest.mark.parametrize(
    ("body", "operator"),
    [
        (f"x = torch.from_file({FILE}, False, 4)", "aten::from_file"),
        (f"x = torch. from_file({FILE}, False, 4)", "aten::from_file"),
        (f"x = torch.\\\n  from_file({FILE}, False, 4)", "aten::from_file"),
        (f"x = ops.aten.from_file({FILE}, False, 4)", "aten::from_file"),
        (f"x = ops . aten . from_file({FILE}, False, 4)", "aten::from_file"),
        (f"if bool(x):\n  while True:\n    x = torch.from_file({FILE})", "aten::from_file"),
        (f"t = torch\nx = t.from_file({FILE}, False, 4)", ""),
        ('torch.save(x, "stolen")', "aten::save"),
        ("ops.prim.Print(x)", "prim::Print"),
        ("print(x)", "prim::Print"),
        ("x = torch.empty([1000])", "aten::empty"),
        ("x = torch.empty_like(x)", "aten::empty_like"),
        ("x = torch.new_empty(x, [1000])", "aten::new_empty"),
        ("x = torch.empty_strided([10], [1])", "aten::empty_strided"),
        ("x = torch.resize_(x, [1000])", "aten::resize_"),
        ("x = torch.resize_as_(x, torch.zeros([9]))", "aten::resize_as_"),
        ("x = torch.set_(x, torch.zeros([9]))", "aten::set_"),
        ("ops.aten.set_data(x, x)", "aten::set_data"),
        ("x = torch.add(x, x, out=torch.zeros([1]))", "out="),
        ("x, _ = torch.max(x, 0, max=x, max_values=torch.zeros([1], dtype=4))", "out="),
        ("torch.manual_seed(3)", "aten::manual_seed"),
        ("x = torch.to(x, annotate(Optional[int], None), False, True)", "aten::to that copies"),
        ("x, _, _, _ = torch.embedding_bag(x, x, x)", "aten::embedding_bag"),
        ("torch.backward(x)", "aten::backward"),
        ('ops.profiler._record_function_enter("a")', "profiler::"),
        ("x = ops.quantized.relu6(x)", "quantized::relu6"),
        ("x = torch._sparse_coo_tensor_unsafe(x, x, [9])", "aten::_sparse_coo_tensor_unsafe"),
        ("x = torch.ctc_loss(x, x, [1], [1])", "aten::ctc_loss"),
        ("x = torch.mkldnn_max_pool2d(x, [2])", "aten::mkldnn_max_pool2d"),
        ("y = [float(x), 0.1]\ntorch.sort(y)\nx = torch.add(x, y[0])", "aten::sort of a list"),
        ("x = torch.add(x, torch.sorted([float(x), 0.1])[0])", "aten::sorted"),
        ("y = fork(__torch__.f, x)", ""),
    ],
)
def test_what_could_touch_more_than_the_models_values_is_refused(
    tmp_path: Path, body: str, operator: str
) -> None:
    message = refused(program(tmp_path, body))
    assert operator in message
    if operator:
        assert "option.isolation=own" in message


@torch.jit.script
def reading(x: torch.Tensor) -> torch.Tensor:
    return torch.from_file("/etc/hostname", False, 4, dtype=torch.uint8)


class Part(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = reading(x)
        return output


class InList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Part()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            x = part(x)
        return x


class InMethod(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def never_called(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = reading(x)
        return output


def before(self: nn.Module, given: tuple[torch.Tensor]) -> None:
    reading(given[0])


@pytest.mark.parametrize("module", [Part(), InList(), InMethod(), Unused(nn.Identity())])
def test_every_function_of_the_program_is_checked(tmp_path: Path, module: nn.Module) -> None:
    if isinstance(module, Unused):
        module.register_forward_pre_hook(before)
    builders.torchscript(tmp_path, module)
    assert "aten::from_file" in refused(tmp_path)


def test_casts_between_classes_are_refused(tmp_path: Path) -> None:
    """The interpreter does not check them, and reads attributes by their position."""
    other = (
        "class Large(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n"
        "  a : Tensor\n  b : Tensor\n  c : Tensor\n  d : Tensor\n"
    )
    kind = "__torch__.torch.nn.modules.linear.Large"
    body = f"y = unchecked_cast({kind}, self)\nx = y.d"
    assert "unchecked cast" in refused(program(tmp_path, body, other))


def test_calls_that_multiply_are_refused(tmp_path: Path) -> None:
    """torch copies a function into each of its callers: forty levels of two calls are 2**40 copies."""
    kind = "__torch__.torch.nn.modules.linear.Identity"
    methods = "".join(
        f"  def f{level}(self: {kind},\n    x: Tensor) -> Tensor:\n"
        f"    return (self).f{level + 1}((self).f{level + 1}(x, ), )\n"
        for level in range(40)
    )
    last = f"  def f40(self: {kind},\n    x: Tensor) -> Tensor:\n    return x\n"
    path = program(tmp_path, "x = (self).f0(x, )", methods + last)
    assert "operations in one call" in refused(path)


def test_nested_expressions_are_bounded(tmp_path: Path) -> None:
    assert "nested" in refused(program(tmp_path, "x = " + "(" * 100_000 + "x" + ")" * 100_000))


MODULES = {
    "recurrent": nn.ModuleList([nn.LSTM(4, 4), nn.GRU(4, 4), nn.RNN(4, 4)]),
    "attention": nn.ModuleList([nn.TransformerEncoderLayer(8, 2), nn.MultiheadAttention(8, 2)]),
    "images": nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.ConvTranspose2d(4, 4, 2), nn.PixelShuffle(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(1, 2), nn.Softmax(-1),
    ),
    "signals": nn.Sequential(
        nn.Conv1d(3, 4, 3), nn.GroupNorm(2, 4), nn.GELU(), nn.InstanceNorm1d(4), nn.LayerNorm(4), nn.PReLU(),
        nn.GLU(), nn.Mish(), nn.RMSNorm(4), nn.Embedding(3, 4), nn.ReflectionPad1d(1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_layers_of_torch_are_allowed(tmp_path: Path, name: str) -> None:
    builders.torchscript(tmp_path, Unused(MODULES[name]))
    with opened(tmp_path) as handler:
        assert answered(handler, [1.0])


def test_common_code_is_allowed(tmp_path: Path) -> None:
    class Common(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.names = ["a", "b"]
            self.table = {"a": 1.5}
            self.register_buffer("seen", torch.zeros(2))

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            if mask is not None:
                x = x.masked_fill(mask, 0.0)
            parts: list[torch.Tensor] = []
            for index, name in enumerate(self.names):
                parts.append(x[..., index:].sum(-1) * self.table.get(name, 2.0))
            with torch.no_grad():
                while len(parts) < 4:
                    parts.append(torch.stack(parts).softmax(0)[0])
            if x.dim() > 9:
                raise ValueError(f"too many: {x.shape}")
            top = torch.topk(torch.cat(parts), 2)
            return torch.where(top.values > 0, top.values, torch.zeros_like(top.values))

    builders.torchscript(tmp_path, Common())
    grad = torch.is_grad_enabled()
    with opened(tmp_path) as handler:
        assert answered(handler, [[1.0, 2.0, 3.0]])
    assert torch.is_grad_enabled() == grad


# ---- aten::lstm, which trusts its weights' sizes ----


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, 2, bidirectional=True)

    def forward(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.lstm(x)[0]
        return output


class Misused(nn.Module):
    """`rows`: of the state. The weights are too narrow if it is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(
            [torch.ones(16, 3), torch.ones(16, 4), torch.ones(16), torch.ones(16)]
        )

    def forward(self, x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        count = int(rows)
        state = torch.zeros(1, count, 4)
        weights = [weight for weight in self.weights]  # noqa: C416 - a ParameterList in TorchScript
        output: torch.Tensor = torch.lstm(
            x, [state, state], weights, True, 1, 0.0, False, False, False
        )[0]
        return output


def test_an_lstm_gives_the_answers_it_gives_alone(tmp_path: Path) -> None:
    module = Recurrent().eval()
    builders.torchscript(tmp_path, module)
    rows = torch.randn(5, 2, 3)
    with opened(tmp_path) as handler:
        (answer,) = answered(handler, {"inputs": {"x": rows.tolist(), "rows": 2}})
    expected = module(rows, torch.tensor(2)).tolist()
    given = json.loads(answer.body)["predictions"]
    assert torch.allclose(torch.tensor(given), torch.tensor(expected))


@pytest.mark.parametrize(
    ("width", "rows", "said"),
    [(3, 1, "states of shape"), (300, 2, "weights of shapes"), (3, 9, "states")],
)
def test_an_lstm_whose_sizes_differ_is_an_invalid_request(
    tmp_path: Path, width: int, rows: int, said: str
) -> None:
    builders.torchscript(tmp_path, Misused())
    inputs = {"x": torch.zeros(5, 2, width).tolist()}
    with opened(tmp_path) as handler:
        assert answered(handler, {"inputs": {"x": torch.zeros(5, 2, 3).tolist(), "rows": 2}})
        refused = refusal(handler, {"inputs": {**inputs, "rows": rows}})
    assert refused.error == "InvalidRequest"
    assert said in refused.message


# ---- other arguments that torch trusts ----


@pytest.mark.parametrize(
    "line",
    [
        "torch.softmax(x, 0, 999)", "torch.softmax(x, 0, int(x[0]))", "torch.to(x, -100)",
        "torch.to(x, 6, False, False, 77)", "torch.zeros([2], dtype=int(x[0]), layout=None)",
        "torch.zeros([2], dtype=6, layout=99)", "torch.sum(x, dtype=annotate(Optional[int], int(x[0])))",
        "torch.contiguous(x, memory_format=int(x[0]))", "torch._weight_norm(x, torch.zeros([0]), 0)",
        "torch._weight_norm(torch.zeros([0, 3]), x, 0)",
        "torch.gru(x, torch.tensor([2]), x, [x, x, x, x], True, 1, 0., False, False)[0]",
    ],
)  # fmt: skip
def test_numbers_that_torch_uses_as_indices_are_checked(tmp_path: Path, line: str) -> None:
    with opened(program(tmp_path, f"x = {line}")) as handler:
        refused = refusal(handler, [-5000.0, 1.0])
    assert refused.error == "InvalidRequest"
    assert "expected" in refused.message


def test_a_data_type_may_be_chosen_at_run_time(tmp_path: Path) -> None:
    line = "x = torch.softmax(torch.to(x, int(x[0])), 0, dtype=annotate(Optional[int], int(x[0])))"
    with opened(program(tmp_path, line)) as handler:
        assert answered(handler, [6.0, 6.0])


# ---- a process of its own ----


def test_in_a_process_of_its_own_the_owner_decides(tmp_path: Path) -> None:
    program(tmp_path, "x = torch.zeros_like(torch.empty_like(x))")
    alone = FormatLoader(CpuDevice(), alone=True)
    with pytest.raises(ModelLoadFailed, match="empty_like"):
        alone.load(tmp_path, Convention.TORCHSCRIPT)
    (tmp_path / "serving.properties").write_text("option.isolation=own")
    assert "empty_like" in refused(tmp_path)
    handler = alone.load(tmp_path, Convention.TORCHSCRIPT)
    assert answered(handler, [1.0])
    assert alone.unload(handler) == 0
