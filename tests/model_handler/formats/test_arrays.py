"""Decoding and encoding arrays in the formats of SageMaker's built-in algorithms."""

import io
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_handler.codecs.arrays import ArrayCodec
from model_handler.codecs.media_types import CSV, JSON
from model_handler.errors import InvalidRequest, UnacceptableAccept, UnsupportedContentType
from model_handler.handlers.tensors import ArrayAnswer
from tests.model_handler.codecs.held import held_s
from tests.model_handler.formats.tables import asked, csv_of, npy_of

NPY, LINES = "application/x-npy", "application/jsonlines"
TABLE = np.array([[1.0, 2.5, -3.0], [4.0, np.nan, 6.0]])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def read(body: bytes | str, content_type: str | None, columns: int | None = 3) -> Any:
    return ArrayCodec(columns=columns).decode(asked(body, content_type)).inputs


def refused(body: bytes | str, content_type: str) -> str:
    with pytest.raises(InvalidRequest) as caught:
        read(body, content_type)
    return str(caught.value)


def written(answer: ArrayAnswer, accept: str | None, **options: Any) -> tuple[bytes, str]:
    return ArrayCodec(**options).encode(answer, accept)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("[[1, 2.5, -3], [4, null, 6]]", JSON),
        ("[[1, 2.5, -3], [4, NaN, 6]]", None),
        ('{"instances": [[1, 2.5, -3], [4, null, 6]]}', "application/json; charset=utf-8"),
        ('{"inputs": [[1, 2.5, -3], [4, null, 6]], "model_id": "x"}', JSON),
        ('{"instances": [{"features": [1, 2.5, -3]}, {"features": [4, null, 6]}]}', JSON),
        ('{"instances": [{"data": {"features": {"values": [1, 2.5, -3]}}}, [4, null, 6]]}', JSON),
        ('{"features": [1, 2.5, -3]}\n\n{"features": [4, null, 6]}\n', LINES),
        ("1,2.5,-3\n4,,6", CSV),
        ("1, 2.5 ,-3\r\n4,nan,6\r\n", "text/csv; label_size=0"),
        ("0 0:1 1:2.5 2:-3\n2:6 0:4\n", "text/libsvm"),
        ("0:1 1:2.5 2:-3\n1 0:4 2:6\n", "text/x-libsvm"),
        (npy_of(TABLE), NPY),
        (npy_of(np.asfortranarray(TABLE)), NPY),
        (npy_of(TABLE.astype(">f8")), NPY),
    ],
)
def test_every_format_decodes_to_the_same_table(
    body: bytes | str, content_type: str | None
) -> None:
    np.testing.assert_array_equal(read(body, content_type), TABLE)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"inputs": {"a": [1, 4], "b": [2, 5]}}', JSON),
        ('{"instances": [{"a": 1, "b": 2}, {"b": 5, "a": 4}]}', JSON),
        ("a,b\n1,2\n4,5\n", CSV),
    ],
)
def test_columns_may_have_names(body: str, content_type: str) -> None:
    named = read(body, content_type)
    assert {name: each.tolist() for name, each in named.items()} == {"a": [1, 4], "b": [2, 5]}


@given(st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=5))
def test_decoding_is_lossless(rows: list[list[float]]) -> None:
    table = np.array(rows)
    for body, content_type in (
        (json.dumps(rows), JSON),
        (csv_of(table), CSV),
        (npy_of(table), NPY),
    ):
        np.testing.assert_array_equal(read(body, content_type, columns=2), table)


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        ("[[1, 2], [3]]", JSON, "rows of different lengths"),
        ('[[1, "a"]]', JSON, "texts and numbers are mixed"),
        ('{"rows": [[1, 2]]}', JSON, '"instances" nor "inputs"'),
        ('{"instances": [{"a": 1}, {"b": 1}]}', JSON, "instance 1 has different keys"),
        ('{"instances": [{"a": 1}, [2]]}', JSON, "instance 1 has different keys"),
        ('{"inputs": [1], "parameters": 3}', JSON, '"parameters" has to be an object'),
        ("[" * 100_000, JSON, "nested too deeply"),
        ("[" * 70 + "]" * 70, JSON, "not numbers"),
        ("{", JSON, "not JSON: "),
        ("1,2\n3\n", CSV, "line 2 has 1 columns, others have 2"),
        ("1,2\n3,red\n", CSV, "line 2, column 2: not a number"),
        ("a,b\n1,x\n", CSV, "line 2, column 2: not a number"),
        ("1,2\n3,1_000\n", CSV, "line 2, column 2: not a number"),
        ("a,b\n", CSV, "a header and no rows"),
        ("", CSV, "no rows"),
        ('"1,2', CSV, "not CSV"),
        ("0:1 7:2", "text/libsvm", "names column 7; the model has 0 to 2"),
        ("0:1 -1:2", "text/libsvm", "names column -1"),
        ("0:one", "text/libsvm", "not <index>:<value>"),
        (b"not npy", NPY, "not npy"),
        (npy_of(TABLE)[:-8], NPY, "longer or shorter than its header"),
        (npy_of(TABLE) + b"x", NPY, "longer or shorter than its header"),
        (npy_of(np.array(["a"])), NPY, "only numbers"),
        (npy_of(np.zeros(1, dtype=[("a", "f4")])), NPY, "only numbers"),
        (b"\xff", CSV, "not text in utf-8"),
    ],
)
def test_invalid_bodies_are_refused_with_the_position(
    body: bytes | str, content_type: str, said: str
) -> None:
    assert said in refused(body, content_type)


class Trap:
    """Sets `sprung` if it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Trap, "sprung", True))


def test_objects_in_npy_are_refused_and_not_unpickled() -> None:
    body = npy_of(np.array([Trap()], dtype=object), allow_pickle=True)
    assert "never objects" in refused(body, NPY)
    assert not Trap.sprung


def test_an_npy_header_of_terabytes_allocates_nothing() -> None:
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**40, 3)}
    np.lib.format.write_array_header_1_0(stream, header)
    assert "longer or shorter" in refused(stream.getvalue() + bytes(48), NPY)


def test_libsvm_rows_beyond_the_memory_limit_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="MME_MAX_VALUES"):
        read("0:1\n" * 1000, "text/libsvm", columns=1_000_000)


@pytest.mark.parametrize("content_type", ["image/png", "text/plain", "application/x-recordio"])
def test_the_refusal_of_a_media_type_lists_the_supported_ones(content_type: str) -> None:
    with pytest.raises(UnsupportedContentType, match="send application/json"):
        read("1", content_type)


def test_libsvm_needs_a_known_number_of_columns() -> None:
    with pytest.raises(UnsupportedContentType):
        read("0:1", "text/libsvm", columns=None)


# ---- answers ----

SCORES = ArrayAnswer({"score": np.array([0.5, 2.0])}, by_row=True)
TENSOR = ArrayAnswer({"output": np.array([[1.5, 2.0], [3.0, np.nan]])}, by_row=False)
PAIR = ArrayAnswer({"a": np.array([1]), "b": np.array(["x"], dtype=object)}, by_row=False)


@pytest.mark.parametrize(
    ("answer", "accept", "body"),
    [
        (SCORES, JSON, b'{"predictions":[{"score":0.5},{"score":2.0}]}'),
        (
            SCORES,
            "application/json; verbose=true",
            b'{"predictions":[{"score":0.5},{"score":2.0}]}',
        ),
        (SCORES, LINES, b'{"score":0.5}\n{"score":2.0}\n'),
        (SCORES, CSV, b"0.5\n2.0\n"),
        (TENSOR, JSON, b'{"predictions":[[1.5,2.0],[3.0,null]]}'),
        (TENSOR, LINES, b"[1.5,2.0]\n[3.0,null]\n"),
        (TENSOR, CSV, b"1.5,2.0\n3.0,nan\n"),
        (PAIR, JSON, b'{"predictions":{"a":[1],"b":["x"]}}'),
    ],
)
def test_answers_as_text(answer: ArrayAnswer, accept: str, body: bytes) -> None:
    assert written(answer, accept) == (body, accept.partition(";")[0])


def test_answers_as_arrays() -> None:
    for answer, expected in (
        (SCORES, [0.5, 2.0]),
        (ArrayAnswer({"l": PAIR.outputs["b"]}, True), ["x"]),
    ):
        body, media = written(answer, NPY)
        assert media == NPY
        assert np.load(io.BytesIO(body), allow_pickle=False).tolist() == expected


@pytest.mark.parametrize("accept", [None, "", "*/*"])
def test_accepting_anything_returns_the_default(accept: str | None) -> None:
    assert written(SCORES, accept)[1] == JSON
    assert written(SCORES, accept, default=CSV)[1] == CSV


@pytest.mark.parametrize(
    ("answer", "accept"),
    [(SCORES, "image/png"), (PAIR, CSV), (PAIR, NPY), (PAIR, LINES)],
)
def test_answers_that_the_accepted_type_cannot_hold_are_refused(
    answer: ArrayAnswer, accept: str
) -> None:
    with pytest.raises(UnacceptableAccept):
        written(answer, accept)


def test_three_dimensions_are_not_a_table() -> None:
    with pytest.raises(UnacceptableAccept, match="3 dimensions"):
        written(ArrayAnswer({"output": np.zeros((1, 2, 3))}, by_row=False), CSV)


# ---- many values ----

MANY = 100_000
HELD_S = 0.08
LARGE = {
    "csv": (b"a,b,c\n" + b"1,2,3\n" * MANY, CSV),
    "libsvm": (b"0:1 " * MANY * 2, "text/libsvm"),
    "json": (b"[" + b"[1,2,3]," * MANY + b"[1,2,3]]", JSON),
    "texts": (b"[" + b'"ab",' * MANY + b'"ab"]', JSON),
}
ROWS = np.random.default_rng(0).random((MANY, 3))


@pytest.mark.parametrize("name", LARGE)
def test_other_threads_run_while_a_large_body_is_decoded(name: str) -> None:
    assert held_s(lambda: read(*LARGE[name]), HELD_S) < HELD_S


@pytest.mark.parametrize("accept", [JSON, CSV])
@pytest.mark.parametrize("values", [ROWS, ROWS.reshape(1, -1)], ids=["long", "wide"])
def test_other_threads_run_while_a_large_answer_is_encoded(values: Any, accept: str) -> None:
    answer = ArrayAnswer({"": values}, by_row=False)
    assert held_s(lambda: written(answer, accept), HELD_S) < HELD_S


@pytest.mark.parametrize("shape", [(3000, 3), (3, 5000), (2, 3, 5000), (20_000,)])
def test_answers_in_parts_are_complete(shape: tuple[int, ...]) -> None:
    values = np.arange(math.prod(shape)).reshape(shape)
    answer = ArrayAnswer({"": values}, by_row=False)
    assert json.loads(written(answer, JSON)[0]) == {"predictions": values.tolist()}
    lines = written(answer, LINES)[0].splitlines()
    assert [json.loads(line) for line in lines] == values.tolist()
    if len(shape) < 3:
        table = written(answer, CSV)[0].decode().splitlines()
        rows = values.reshape(len(values), -1)
        assert [[int(cell) for cell in line.split(",")] for line in table] == rows.tolist()


def test_records_in_parts_are_complete() -> None:
    values = np.arange(10_000)
    answer = ArrayAnswer({"a": values, "b": -values}, by_row=True)
    records = [{"a": n, "b": -n} for n in range(10_000)]
    assert json.loads(written(answer, JSON)[0]) == {"predictions": records}
    assert [json.loads(line) for line in written(answer, LINES)[0].splitlines()] == records


@pytest.mark.parametrize(
    "rows",
    [
        [[1.5, 2.5]] * 50_000 + [[1, 2]],
        [[n, n + 1] for n in range(50_000)] + [[None, 1]],
        [[0] * 100_000, [1.5] * 100_000],
        ["a"] * 100_000 + ["b"],
    ],
)
def test_large_arrays_equal_those_that_are_made_at_once(rows: list[Any]) -> None:
    found = read(json.dumps(rows), JSON)
    kind = object if isinstance(rows[0], str) else np.float64
    np.testing.assert_array_equal(found.astype(kind), np.array(rows, kind))


@pytest.mark.parametrize(
    "rows", [[[1, 2]] * 50_000 + [[1]], [1] * 100_000 + ["a"], [[1] * 70_000, [1] * 69_999]]
)
def test_faults_in_large_arrays_are_refused(rows: list[Any]) -> None:
    refused(json.dumps(rows), JSON)


def test_the_longest_text_is_found_in_any_block() -> None:
    long = "x" * 300_000
    body = json.dumps(["a", 'b"' + long, *(["c"] * 9000)])
    assert "cells × longest text" in refused(body, JSON)
