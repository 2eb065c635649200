"""TorchScript archives whose parts do not fit together are refused before torch opens them."""

import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from model_handler.artifacts.conventions import Convention
from tests.model_handler.formats import builders
from tests.model_handler.formats.tables import answered, failure, opened

Change = Callable[[bytes], bytes]


class Inner(torch.nn.Module):
    def __init__(self, steps: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.steps = steps
        self.pair = (steps, "text")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.steps + self.pair[0] + len(self.pair[1])


class Other(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Outer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner(2)
        self.other = Other()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.other(self.inner(x))
        return output


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return builders.torchscript(tmp_path, Outer())


def rewrite(path: Path, changes: Mapping[str, Change]) -> None:
    """Change the content of members; each change must change something."""
    file = path / "model.pt"
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            change = changes.get(name.partition("/")[2])
            changed = content if change is None else change(content)
            assert change is None or changed != content
            archive.writestr(name, changed)


def swap(old: bytes, new: bytes) -> Change:
    return lambda content: content.replace(old, new)


def refused(path: Path) -> str:
    return failure(path, Convention.TORCHSCRIPT)


def test_a_rewritten_archive_still_loads(saved: Path) -> None:
    rewrite(saved, {})
    with opened(saved) as handler:
        assert answered(handler, [1.0, 1.0, 1.0, 1.0])


# ---- tensors and their storages ----


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"K\x04tQ", b"M\x00\x10tQ", "its record has 16 bytes"),
        (b"K\x04tQ", b"J\x00\x00\x00\x10tQ", "its record has 16 bytes"),
        (b"K\x04tQ", b"J\xff\xff\xff\xfftQ", "more than the tensors"),
        (b"K\x04tQ", b"K\x03tQ", "larger than its storage"),
        (b"FloatStorage", b"DoubleStorage", "its record has 16 bytes"),
        (b"(K\x04t(K\x01t", b"(M\x00\x10t(K\x01t", "larger than its storage"),
        (b"(K\x04t(K\x01t", b"(K\x04t(K\x02t", "larger than its storage"),
        (b"(K\x04t(K\x01t", b"(K\x04t(J\xff\xff\xff\xfft", "negative"),
        (b"(K\x04t(K\x01t", b"(K\x04K\x04t(K\x01t", "other strides than sizes"),
        (b"K\x00(K\x04t", b"K\x01(K\x04t", "larger than its storage"),
        (b"K\x00(K\x04t", b"J\xff\xff\xff\xff(K\x04t", "negative"),
        (b"_rebuild_tensor_v2", b"_rebuild_sparse_tensor", "more than the tensors"),
        (b"X\x01\x00\x00\x000", b"X\x02\x00\x00\x00../"[:7], "but its record has 0 bytes"),
    ],
)
def test_tensors_larger_than_their_records_are_refused(
    saved: Path, old: bytes, new: bytes, said: str
) -> None:
    rewrite(saved, {"data.pkl": swap(old, new)})
    assert said in refused(saved)


def test_a_record_that_is_missing_or_short_is_refused(saved: Path) -> None:
    rewrite(saved, {"data/0": lambda content: content[:-4]})
    assert "its record has 12 bytes" in refused(saved)


def test_constants_are_checked_too(tmp_path: Path) -> None:
    module = torch.jit.freeze(torch.jit.script(Outer().eval()))
    module.save(str(tmp_path / "model.pt"))
    with opened(tmp_path) as handler:
        assert answered(handler, [1.0, 1.0, 1.0, 1.0])
    rewrite(tmp_path, {"constants.pkl": swap(b"K\x04tQ", b"M\x00\x10tQ")})
    assert "its record has 16 bytes" in refused(tmp_path)


def test_booleans_have_two_values(tmp_path: Path) -> None:
    module = Outer()
    module.register_buffer("mask", torch.tensor([True, False]))
    builders.torchscript(tmp_path, module)
    rewrite(tmp_path, {"data/0": lambda _: b"\x02\xff"})
    assert "booleans" in refused(tmp_path)


# ---- values and their types ----


def test_an_attribute_of_another_class_is_refused(saved: Path) -> None:
    """The interpreter would read the attributes of the declared class outside the object."""
    rewrite(saved, {"data.pkl": swap(b"\nInner\n", b"\nOther\n")})
    assert "attribute inner" in refused(saved)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"K\x02X\x04\x00\x00\x00text\x86", b"K\x02K\x02\x86"),
        (b"K\x02X\x04\x00\x00\x00text\x86", b"K\x02\x85"),
        (b"K\x02X\x04\x00\x00\x00text\x86", b"N"),
        (b"stepsK\x02", b"stepsK\x02\x85"),
        (b"stepsK\x02", b"stepsN"),
    ],
)
def test_an_attribute_of_another_type_is_refused(saved: Path, old: bytes, new: bytes) -> None:
    rewrite(saved, {"data.pkl": lambda content: _without_memo(content).replace(old, new)})
    assert "attribute" in refused(saved)


def _without_memo(content: bytes) -> bytes:
    """The same pickle, without memo entries that nothing reads."""
    return pickletools.optimize(content)


class Called:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("called",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Called(), 2),
        pickle.dumps({"a": Called()}, 4),
        b"\x80\x02]q\x00h\x00a.",  # a list that contains itself
        b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # memo of 2**31 values
        b"\x80\x02c__torch__.torch.classes.quantized\nConv2dPackedParamsBase\n)\x81N b.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02K\x00)R.",  # torch would take the number for the index of a name
        b"\x80\x02N.N.",
        b"\x80\x02",
        b"",
        b"X\xff\xff\xff\xffa.",
    ],
)
def test_pickles_with_anything_else_are_refused(
    saved: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    rewrite(saved, {"data.pkl": lambda _: content})
    assert refused(saved)
    rewrite(saved, {"constants.pkl": lambda _: content})
    assert refused(saved)
    assert "called" not in capfd.readouterr().out


def test_positions_outside_their_table_are_refused(saved: Path) -> None:
    source = "code/__torch__/tests/model_handler/formats/test_torchscript_files.py.debug_pkl"
    table = ("FORMAT_WITH_STRING_TABLE", ("",), ((0, (([0], 10_000_000, 0), 0, 0), 0),))
    rewrite(saved, {source: lambda _: pickle.dumps(table, 2)})
    assert "malformed positions" in refused(saved)


def test_modules_that_share_a_module_are_counted_at_each_use(tmp_path: Path) -> None:
    """Thirty lists, each twice in the next, are 2**30 values."""
    content = b"\x80\x02]q\x00" + b"".join(
        b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(30)
    )  # fmt: skip
    builders.torchscript(tmp_path, Outer())
    rewrite(tmp_path, {"data.pkl": lambda _: content + b"."})
    assert "values" in refused(tmp_path)


def test_code_that_would_run_at_the_load_is_refused(saved: Path, tmp_path: Path) -> None:
    class Restoring(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.training = False

        @torch.jit.export
        def __getstate__(self) -> tuple[torch.Tensor, bool]:
            return torch.ones(1), self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
            torch.save(state[0], "/tmp/written")
            self.training = state[1]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    builders.torchscript(tmp_path, Restoring())
    assert "__setstate__" in refused(tmp_path)


# ---- archives ----


def raw(path: Path) -> bytes:
    return (path / "model.pt").read_bytes()


def _renamed_locally(content: bytes) -> bytes:
    """Another name in the local header than in the directory."""
    return content.replace(b"model/data.pkl", b"model/data.pkk", 1)


def _overlapping(content: bytes) -> bytes:
    """The directory's second member begins where the first does."""
    at = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)
    return content[: at + 42] + struct.pack("<I", 0) + content[at + 46 :]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"prefix" + content,
        lambda content: content + b"suffix",
        lambda content: content[:-2] + b"\x04\x00more",
        _renamed_locally,
        _overlapping,
        lambda content: content[: len(content) // 2],
        lambda content: content + content,
        lambda content: content.replace(b"model/version", b"MODEL/version"),
        lambda content: content.replace(b"model/version", b"model/data\0pk"),
    ],
)
def test_archives_that_can_be_read_in_two_ways_are_refused(saved: Path, change: Change) -> None:
    rewrite(saved, {})
    (saved / "model.pt").write_bytes(change(raw(saved)))
    assert refused(saved)


@pytest.mark.parametrize(
    "name", ["model/DATA.PKL", "other/data.pkl", "model/model.json", "model/bytecode.pkl"]
)
def test_members_that_torch_might_read_instead_are_refused(saved: Path, name: str) -> None:
    with zipfile.ZipFile(saved / "model.pt", "a") as archive:
        archive.writestr(name, b"\x80\x02N.")
    assert refused(saved)
