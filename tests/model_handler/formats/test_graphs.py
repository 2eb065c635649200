"""ONNX, TorchScript and torch.export: tensors in and out, batched only where rows are independent."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from model_handler.artifacts.conventions import Convention, detect
from model_handler.device.device import CpuDevice
from model_handler.errors import ModelLoadFailed
from model_handler.handlers.tensors import ArrayHandler
from model_handler.loading.formats import FormatLoader
from tests.hostile.inputs.graphs import Asserting, script
from tests.model_handler.formats import builders
from tests.model_handler.formats.builders import WEIGHT
from tests.model_handler.formats.tables import ROWS, answered, asked, failure, npy_of, opened
from tests.model_handler.harness import refusal

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


def predictions(answer: Any) -> Any:
    return json.loads(answer.body)["predictions"]


def joined(handler: ArrayHandler, *documents: Any) -> bool:
    """Whether the requests may share a batch."""
    units = [
        unit
        for document in documents
        for unit in handler.preprocess(
            handler.codec.decode(asked(json.dumps(document), JSON))
        ).units
    ]
    return len({unit.group for unit in units}) == 1


@pytest.fixture(params=["onnx_graph", "torchscript"])
def linear(request: pytest.FixtureRequest) -> Path:
    """(rows, 3) times WEIGHT."""
    path: Path = request.getfixturevalue(request.param)
    return path


def test_every_input_format_gets_the_same_answer(linear: Path) -> None:
    rows = np.array([[1.5, 2.0, -3.0], [4.0, 5.0, 6.0]], dtype=np.float32)
    name = "x"
    with opened(linear) as handler:
        answers = answered(
            handler,
            asked(json.dumps(rows.tolist()), JSON),
            asked(json.dumps({"instances": rows.tolist()}), JSON),
            asked(json.dumps({"inputs": {name: rows.tolist()}}), JSON),
            asked("1.5,2,-3\n4,5,6", CSV),
            asked(npy_of(rows.astype(np.float64)), NPY),
        )
        (array,) = answered(handler, asked(npy_of(rows), NPY, NPY))
    for answer in answers:
        np.testing.assert_allclose(predictions(answer), rows @ WEIGHT, rtol=1e-5)
    assert array.body[:6] == b"\x93NUMPY"
    assert array.body.endswith((rows @ WEIGHT).tobytes()) or np.allclose(
        np.frombuffer(array.body[-16:], np.float32).reshape(2, 2), rows @ WEIGHT, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([[1.0, 2.0]], "3"),
        ([["a", "b", "c"]], "texts"),
        ({"inputs": {"z": [[1.0, 2.0, 3.0]]}}, "got z"),
        ({"inputs": {"x": [[1.0, 2.0, 3.0]], "y": [1.0]}}, "got x, y"),
        ({"inputs": [[1.0, 2.0, 3.0]], "parameters": {"colour": 1}}, "parameter"),
    ],
)
def test_unfit_inputs_are_refused(linear: Path, document: Any, said: str) -> None:
    with opened(linear) as handler:
        refused = refusal(handler, document)
    assert refused.error == "InvalidRequest"
    assert said in refused.message


def test_batch_size_declares_that_rows_are_independent(tmp_path: Path) -> None:
    """Only with it do TorchScript requests share a batch; each gets the answer it would get alone."""
    builders.torchscript(tmp_path, builders.Linear())
    requests = [asked(json.dumps(ROWS[at : at + 1 + at % 3].tolist()), JSON) for at in range(20)]
    with opened(tmp_path) as handler:
        assert not joined(handler, [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]])
        alone = [predictions(answered(handler, request)[0]) for request in requests]
    (tmp_path / "serving.properties").write_text("batch_size=8")
    with opened(tmp_path) as handler:
        assert joined(handler, [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
        for answer, expected in zip(answered(handler, *requests), alone, strict=True):
            np.testing.assert_allclose(predictions(answer), expected, rtol=1e-5, atol=1e-6)


def test_a_model_that_does_not_answer_by_row_is_run_for_each_request(tmp_path: Path) -> None:
    """Even if its batch_size setting declares otherwise."""
    builders.torchscript(tmp_path, builders.Deciding())
    (tmp_path / "serving.properties").write_text("batch_size=8")
    with opened(tmp_path) as handler:
        answers = answered(handler, [[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
    expected = [(rows @ WEIGHT).sum() for rows in ([[1, 2, 3]], [[4, 5, 6], [7, 8, 9]])]
    np.testing.assert_allclose([predictions(answer) for answer in answers], expected, rtol=1e-5)


# ---- ONNX ----


def test_a_dimension_named_batch_lets_requests_share_a_run(
    onnx_graph: Path, tmp_path: Path
) -> None:
    row = [[1.0, 2.0, 3.0]]
    with opened(onnx_graph) as handler:
        assert joined(handler, row, row * 3)
        answers = [predictions(each) for each in answered(handler, row, row * 3, row)]
    np.testing.assert_allclose(answers[0] * 3, answers[1], rtol=1e-5)
    with opened(builders.onnx_graph(tmp_path, "sequence")) as handler:
        assert not joined(handler, row, row)


def test_a_single_row_may_come_without_its_brackets(onnx_graph: Path) -> None:
    with opened(onnx_graph) as handler:
        (answer,) = answered(handler, [1.0, 2.0, 3.0])
    np.testing.assert_allclose(predictions(answer), [np.array([1, 2, 3]) @ WEIGHT], rtol=1e-5)


def test_refusals_name_the_expected_and_the_actual_input(onnx_graph: Path) -> None:
    with opened(onnx_graph) as handler:
        assert refusal(handler, [[1, 2]]).message == (
            "expected x: float32 of shape (batch, 3); got shape (1, 2)"
        )
        assert refusal(handler, [["a", "b", "c"]]).message == (
            "expected x: float32 of shape (batch, 3); got texts"
        )


def test_types_are_those_of_the_graph(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    shape = {"x": ["batch"]}, {"y": ["batch"]}
    for kind, good, bad in (
        (TensorProto.INT8, [1, -128], [1, 128]),
        (TensorProto.INT64, [1, 2], [1.5, 2]),
        (TensorProto.STRING, ["a", "b"], [1, 2]),
        (TensorProto.FLOAT16, [0.5, 2], ["a", "b"]),
    ):
        builders.graph(tmp_path, [node], *shape, {}, kind)
        with opened(tmp_path) as handler:
            assert predictions(answered(handler, good)[0]) == good
            assert "expected x" in refusal(handler, bad).message


def test_several_outputs_are_answered_by_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["less"]), helper.make_node("Abs", ["x"], ["size"])]
    shapes = {"x": ["batch", 1]}, {"less": ["batch", 1], "size": ["batch", 1]}
    with opened(builders.graph(tmp_path, nodes, *shapes, {})) as handler:
        first, second = answered(handler, [[1.0]], [[-2.0]])
        refused = refusal(handler, asked("1", CSV, CSV))
    assert predictions(first) == {"less": [[-1.0]], "size": [[1.0]]}
    assert predictions(second) == {"less": [[2.0]], "size": [[2.0]]}
    assert refused.error == "UnacceptableAccept"
    assert "less, size" in refused.message


def test_shape_errors_at_run_time_are_invalid_requests(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    shapes = {"x": ["batch", None]}, {"y": ["batch", 2]}
    with opened(builders.graph(tmp_path, [node], *shapes, {"w": WEIGHT})) as handler:
        assert predictions(answered(handler, [[1.0, 2.0, 3.0]])[0])
        refused = refusal(handler, [[1.0, 2.0]])
    assert refused.error == "InvalidRequest"


def test_sessions_share_one_thread_pool(onnx_graph: Path) -> None:
    import psutil

    process = psutil.Process()
    with opened(onnx_graph) as first:
        answered(first, ROWS.tolist())
        before = process.num_threads()
        owner = FormatLoader(CpuDevice())
        more = [owner.load(onnx_graph, Convention.ONNX) for _ in range(10)]
        for handler in more:
            answered(handler, ROWS.tolist())
        assert process.num_threads() == before
        assert [owner.unload(handler) for handler in more] == [0] * 10


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    assert failure(tmp_path, Convention.ONNX)


# ---- TorchScript ----


def test_whole_numbers_stay_whole_unless_a_type_is_given(torchscript: Path) -> None:
    row = [[1, 2, 3]]
    with opened(torchscript) as handler:
        assert "dtype" in refusal(handler, row).message
        typed = {"inputs": row, "parameters": {"dtype": "float32"}}
        (answer,) = answered(handler, typed)
    np.testing.assert_allclose(predictions(answer), row @ WEIGHT, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_decimals_are_cast_to_the_models_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    builders.torchscript(tmp_path, builders.Linear().to(dtype))
    with opened(tmp_path) as handler:
        (answer,) = answered(handler, [[1.5, 2.5, 3.5]])
    expected = [[1.5, 2.5, 3.5]] @ WEIGHT
    np.testing.assert_allclose(predictions(answer), expected, rtol=0.02, atol=0.02)


def test_several_tensors_go_in_and_out_by_name(tmp_path: Path) -> None:
    with opened(builders.torchscript(tmp_path, builders.Pair())) as handler:
        inputs = {"x": [[1.0, 2.0, 3.0]], "ids": [[7, 8]]}
        (answer,) = answered(handler, {"inputs": inputs})
        refused = refusal(handler, [[1.0, 2.0, 3.0]])
    assert predictions(answer)["next"] == [[8, 9]]
    assert refused.message == "expected x; ids; got one array without name"


def test_programs_with_inputs_other_than_tensors_are_refused(tmp_path: Path) -> None:
    builders.torchscript(tmp_path, builders.Text())
    assert "takes str as name" in failure(tmp_path, Convention.TORCHSCRIPT)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_and_not_opened(tmp_path: Path, zipped: bool) -> None:
    state = builders.Linear().state_dict()
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    assert "is a pickle" in failure(tmp_path, Convention.TORCHSCRIPT)


def test_nbytes_is_the_size_of_the_tensors(torchscript: Path, tmp_path: Path) -> None:
    """Also if freezing has turned weights into constants."""
    with opened(torchscript) as handler:
        assert handler.nbytes == WEIGHT.nbytes
    module = torch.jit.script(builders.Linear().eval())
    torch.jit.freeze(module).save(str(tmp_path / "model.pt"))
    with opened(tmp_path) as handler:
        assert handler.nbytes == WEIGHT.nbytes


# ---- torch.export ----


def test_torch_export_programs_are_refused_in_shared_processes(exported: Path) -> None:
    message = failure(exported, Convention.EXPORTED)
    assert "torch.export.load unpickles" in message
    assert "code/inference.py" in message


# PyTorch 2.11 warns that the file's bytes are read-only; nothing writes to them
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_torch_export_programs_open_in_a_process_of_their_own(exported: Path) -> None:
    owner = FormatLoader(CpuDevice(), alone=True)
    handler = owner.load(exported, Convention.EXPORTED)
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    np.testing.assert_allclose(predictions(answered(handler, rows)[0]), rows @ WEIGHT, rtol=1e-5)
    assert "expected x: float32 of shape (any, 3)" in refusal(handler, [[1.0, 2.0]]).message
    assert handler.nbytes == WEIGHT.nbytes
    assert owner.unload(handler) == 0


# ---- files ----


@pytest.mark.parametrize(
    ("names", "convention", "said"),
    [
        (["model.pkl"], Convention.SKOPS, "skops.io.dump"),
        (["model.joblib"], Convention.SKOPS, "it is not opened"),
        (["xgboost-model"], Convention.XGBOOST, 'save_model("model.ubj")'),
        (["model.bin"], Convention.XGBOOST, "executes code when it is read"),
        (["a.onnx", "b.onnx"], Convention.ONNX, "2 files are *.onnx"),
        (["readme.md"], Convention.TORCHSCRIPT, "no *.pt or *.pth or *.ts in the artifact"),
    ],
)
def test_unsafe_or_ambiguous_files_are_refused(
    tmp_path: Path, names: list[str], convention: Convention, said: str
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"\x80\x04N.")
    assert said in failure(tmp_path, convention)


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib", "model.pickle"])
def test_an_artifact_with_only_a_pickle_is_refused_with_a_remedy(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04N.")
    with pytest.raises(ModelLoadFailed, match=rf"{name} is a pickle.*save the model as .*\.skops"):
        detect(tmp_path)


def test_an_error_of_torchscript_is_its_cause(tmp_path: Path) -> None:
    """Without the two tracebacks with source lines that come before it."""
    script(Asserting())(tmp_path)
    with opened(tmp_path) as handler:
        message = refusal(handler, {"inputs": [[1.0]]}).message
    assert message.endswith("AssertionError: an assertion of the model")
    assert "Traceback" not in message
    assert "line" not in message
