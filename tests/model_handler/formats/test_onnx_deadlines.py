"""ONNX graphs can contain loops without end: a run is stopped at the deadline of its request."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_handler.budgets.interruption import Interruptions
from model_handler.handlers.tensors import ArrayHandler
from tests.model_handler.formats.tables import answered, opened
from tests.model_handler.harness import refusal, request, run

FOREVER = np.array(1 << 62)


def looping(path: Path, *, condition: bool, nested: bool) -> Path:
    """y = x after as many steps of a Loop as x says; the steps of a nested loop are endless as well."""
    keep = helper.make_node("Identity", ["going"], ["still_going"])
    step = helper.make_node("Identity", ["value"], ["next_value"])
    info = helper.make_tensor_value_info
    inner = helper.make_graph(
        [keep, step],
        "inner",
        [
            info("i", TensorProto.INT64, []),
            info("going", TensorProto.BOOL, []),
            info("value", TensorProto.INT64, []),
        ],
        [info("still_going", TensorProto.BOOL, []), info("next_value", TensorProto.INT64, [])],
    )
    if nested:
        deeper = helper.make_node("Loop", ["value", "", "value"], ["next_value"], body=inner)
        outer_keep = helper.make_node("Identity", ["going"], ["still"])
        inner = helper.make_graph(
            [outer_keep, deeper],
            "outer",
            [
                info("j", TensorProto.INT64, []),
                info("going", TensorProto.BOOL, []),
                info("value", TensorProto.INT64, []),
            ],
            [info("still", TensorProto.BOOL, []), info("next_value", TensorProto.INT64, [])],
        )
    count = "" if condition else "x"
    loop = helper.make_node("Loop", [count, "true", "x"], ["y"], body=inner)
    graph = helper.make_graph(
        [loop],
        "graph",
        [info("x", TensorProto.INT64, [])],
        [info("y", TensorProto.INT64, [])],
        [numpy_helper.from_array(np.array(True), "true")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path / "model.onnx")
    return path


@pytest.mark.parametrize(
    ("condition", "nested"),
    [(False, False), (True, False), (False, True)],
    ids=["count", "condition", "nested"],
)
def test_an_endless_graph_is_stopped_and_answers_again(
    tmp_path: Path, condition: bool, nested: bool
) -> None:
    with opened(looping(tmp_path, condition=condition, nested=nested)) as handler:
        for _ in range(2):
            began = time.monotonic()
            stopped = refusal(handler, int(FOREVER), timeout_s=0.2)
            assert stopped.error == "DeadlineExceeded"
            assert time.monotonic() - began < 2
        if not condition:
            assert predictions(handler, 3) == 3


def predictions(handler: ArrayHandler, document: int) -> object:
    return json.loads(answered(handler, document)[0].body)["predictions"]


def test_only_the_run_at_its_deadline_is_stopped(tmp_path: Path) -> None:
    """Two runs at the same time, of which one is endless."""
    results = []
    with opened(looping(tmp_path, condition=False, nested=False)) as handler:
        other = threading.Thread(target=lambda: results.append(predictions(handler, 200_000)))
        other.start()
        (stopped,) = run(handler, request(int(FOREVER)), timeout_s=0.2)
        other.join()
    assert getattr(stopped, "error", "") == "DeadlineExceeded"
    assert results == [200_000]


def test_interruptions_come_in_the_order_of_their_deadlines() -> None:
    interruptions = Interruptions()
    stopped: list[str] = []
    late, early, never = threading.Event(), threading.Event(), threading.Event()
    now = time.monotonic()
    with interruptions.at(now + 0.1, late.set), interruptions.at(now + 0.01, early.set):
        with interruptions.at(now + 0.05, never.set):
            pass
        assert early.wait(5)
        stopped += ["late"] * late.is_set()
        assert late.wait(5)
    assert stopped == []
    assert not never.is_set()
