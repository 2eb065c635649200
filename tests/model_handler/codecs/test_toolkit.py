"""Decoding requests and encoding answers in the formats of the Hugging Face inference toolkit."""

import base64
import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model_handler.artifacts.tasks import InputKind
from model_handler.codecs.toolkit import decode, encode
from model_handler.errors import (
    InferenceFailed,
    InvalidRequest,
    UnacceptableAccept,
    UnsupportedContentType,
)
from model_handler.handlers import Payload
from model_handler.handlers.media import RawBody, materialise
from model_handler.messages import InferenceRequest
from tests.model_handler.codecs.held import held_s

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def decoded(body: bytes, content_type: str | None = "application/json") -> Payload:
    return decode(InferenceRequest(body, content_type))


def image_bytes(form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (6, 4), (200, 10, 30)).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("document", "inputs", "parameters"),
    [
        ({"inputs": "hi", "parameters": {"top_k": 2}}, "hi", {"top_k": 2}),
        ({"inputs": ["a", "b"]}, ["a", "b"], {}),
        ({"inputs": "hi", "parameters": None}, "hi", {}),
        ({"inputs": "hi", "options": {"wait": True}}, "hi", {}),
        ({"question": "q", "context": "c"}, {"question": "q", "context": "c"}, {}),
        ({"question": "q", "parameters": {"top_k": 1}}, {"question": "q"}, {"top_k": 1}),
        (["a", "b"], ["a", "b"], {}),
        ("hi", "hi", {}),
    ],
)
def test_json_documents_become_inputs_and_parameters(
    document: Any, inputs: Any, parameters: dict[str, Any]
) -> None:
    assert decoded(json.dumps(document).encode()) == Payload(inputs, parameters)


@pytest.mark.parametrize(
    "body",
    [b"", b"{bad", b'{"inputs": "x",}', b"[" * 100_000, b"\xff\xfe\xfa", b"1" * 10_000],
)
def test_invalid_json_is_an_invalid_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decoded(body)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("parameters", [[], "x", 3, True])
def test_parameters_must_be_an_object(parameters: Any) -> None:
    with pytest.raises(InvalidRequest, match="object"):
        decoded(json.dumps({"inputs": "x", "parameters": parameters}).encode())


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/plain", "utf-8"),
        ("text/plain; charset=latin-1", "latin-1"),
        ('Text/Plain; charset="UTF-16"', "utf-16"),
    ],
)
def test_plain_text_is_decoded_by_its_charset(content_type: str, encoding: str) -> None:
    assert decoded("grün".encode(encoding), content_type) == Payload("grün")


def test_json_is_decoded_by_its_charset() -> None:
    body = '{"inputs": "grün"}'.encode("latin-1")
    assert decoded(body, "application/json; charset=iso-8859-1").inputs == "grün"


def test_json_in_utf_16_is_detected() -> None:
    assert decoded('{"inputs": "grün"}'.encode("utf-16")).inputs == "grün"


@pytest.mark.parametrize("charset", ["klingon", "rot13", "base64"])
def test_unknown_charset_is_unsupported(charset: str) -> None:
    with pytest.raises(UnsupportedContentType, match=charset):
        decoded(b"x", f"text/plain; charset={charset}")


def test_text_with_the_wrong_charset_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="utf-8"):
        decoded(b"\xff", "text/plain")


def test_csv_with_an_inputs_column() -> None:
    assert decoded(b'inputs\nfirst\n"a, b"\n', "text/csv").inputs == ["first", "a, b"]


def test_csv_with_question_and_context_columns() -> None:
    rows = decoded(b"question,context\nwho?,me\n", "text/csv; charset=utf-8").inputs
    assert rows == [{"question": "who?", "context": "me"}]


def test_csv_takes_long_fields() -> None:
    text = "long " * 100_000
    assert decoded(f"inputs\n{text}\n".encode(), "text/csv").inputs == [text]


@pytest.mark.parametrize(
    "body", [b"", b"inputs\n", b"text\nhello\n", b"question,context\nalone\n", b'inputs\n"open']
)
def test_invalid_csv_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decoded(body, "text/csv")


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("image/png", InputKind.IMAGE),
        ("application/x-image", InputKind.IMAGE),
        ("application/octet-stream", InputKind.IMAGE),
        (None, InputKind.IMAGE),
    ],
)
def test_image_bodies_are_decoded(content_type: str | None, kind: InputKind) -> None:
    picture = materialise(decoded(image_bytes(), content_type).inputs, kind, None)
    assert picture.mode == "RGB"
    assert picture.size == (6, 4)


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_images_inside_json_are_base64(prefix: str) -> None:
    text = prefix + base64.b64encode(image_bytes()).decode()
    first, second = materialise([text, text], InputKind.IMAGE, None)
    assert first.getpixel((0, 0)) == second.getpixel((0, 0)) == (200, 10, 30)


@pytest.mark.parametrize("text", ["/etc/passwd", "http://169.254.169.254/x.png", "file:///etc", ""])
@pytest.mark.parametrize("kind", [InputKind.IMAGE, InputKind.AUDIO])
def test_urls_and_paths_are_not_followed(text: str, kind: InputKind) -> None:
    with pytest.raises(InvalidRequest):
        materialise(text, kind, 16000)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (RawBody(b"x", "image/png", InputKind.IMAGE), InputKind.TEXT),
        (RawBody(b"x", "image/png", InputKind.IMAGE), InputKind.AUDIO),
        (RawBody(b"x", "audio/wav", InputKind.AUDIO), InputKind.IMAGE),
        (RawBody(b"x", "application/octet-stream", None), InputKind.TEXT),
    ],
)
def test_a_task_refuses_media_it_does_not_take(body: RawBody, kind: InputKind) -> None:
    with pytest.raises(UnsupportedContentType, match="application/json"):
        materialise(body, kind, None)


@pytest.mark.parametrize(
    "kind", ["application/x-npy", "application/python-pickle", "video/mp4", "x"]
)
def test_unknown_media_types_are_unsupported(kind: str) -> None:
    with pytest.raises(UnsupportedContentType):
        decoded(b"x", kind)


def test_a_missing_content_type_means_json() -> None:
    assert decoded(b'{"inputs": "x"}', None) == decoded(b'{"inputs": "x"}', " ") == Payload("x")


def test_audio_samples_inside_json() -> None:
    samples = materialise({"raw": [0, 0.5], "sampling_rate": 16000}, InputKind.AUDIO, 16000)
    assert samples.dtype == np.float32
    assert samples.tolist() == [0, 0.5]


@pytest.mark.parametrize("raw", [[], ["x"], [[1.0]], None, {}])
def test_invalid_audio_samples_are_refused(raw: Any) -> None:
    with pytest.raises(InvalidRequest):
        materialise({"raw": raw, "sampling_rate": 16000}, InputKind.AUDIO, 16000)


def test_audio_at_another_sampling_rate_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="8000"):
        materialise({"raw": [0.1], "sampling_rate": 8000}, InputKind.AUDIO, 16000)


# ---- answers ----


@given(JSON_VALUES)
def test_json_answers_round_trip(answer: Any) -> None:
    body, media = encode(answer, None)
    assert media == "application/json"
    assert json.loads(body) == answer


def test_json_bytes_match_the_toolkit() -> None:
    """Compact separators and UTF-8 rather than escapes."""
    body, _ = encode([{"label": "schön", "score": 0.5}], "application/json")
    assert body == '[{"label":"schön","score":0.5}]'.encode()


def test_numpy_and_torch_numbers_become_json() -> None:
    answer = [np.int64(1), np.float32(0.5), np.array([1, 2]), torch.tensor([3.0]), (4,)]
    assert encode(answer, None)[0] == b"[1,0.5,[1,2],[3.0],[4]]"


@pytest.mark.parametrize(
    "answer",
    [
        list(range(3000)),
        [{"label": "x", "score": n / 7} for n in range(3000)],
        {"é": [[1.5, 2], []], "b": {"c": ["x"] * 3000}, "d": None},
        [[{"a": [1]}], [{"a": []}]],
        [],
        [[]],
    ],
)
def test_answers_in_parts_are_complete(answer: Any) -> None:
    written, _ = encode(answer, None)
    assert written == json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("shape", [(5000,), (3, 4, 5), (2, 3000), (0,), (2, 0), (0, 2), (1, 1)])
def test_arrays_in_answers_become_lists(shape: tuple[int, ...]) -> None:
    values = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    for array in (values, torch.from_numpy(values)):
        written, _ = encode({"depth": array}, None)
        assert json.loads(written) == {"depth": values.tolist()}


def test_other_threads_run_while_a_large_answer_is_written() -> None:
    depth = np.random.default_rng(0).random((10, 20_000))
    assert held_s(lambda: encode({"depth": depth}, None), limit_s=0.05) < 0.05


def test_images_in_answers_are_base64_png() -> None:
    body, _ = encode({"mask": Image.new("L", (2, 2))}, None)
    data = base64.b64decode(json.loads(body)["mask"])
    assert Image.open(io.BytesIO(data)).size == (2, 2)


@pytest.mark.parametrize("answer", [math.nan, math.inf, object(), "\ud800"])
def test_answers_that_json_cannot_hold_fail(answer: Any) -> None:
    with pytest.raises(InferenceFailed):
        encode(answer, None)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("APPLICATION/JSON", "application/json"),
        ("text/csv", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/json", "application/json"),
        ("text/csv, application/json;q=0.5", "text/csv"),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=0, */*", "text/csv"),
        ("application/json; charset=utf-8", "application/json"),
    ],
)
def test_accept_chooses_the_media_type(accept: str | None, media: str) -> None:
    assert encode([{"label": "a"}], accept)[1] == media


@pytest.mark.parametrize(
    "accept",
    [
        "image/png",
        "text/html",
        "application/json;q=0",
        "text/csv;q=nan",
        "text/csv;q=2",
        "nonsense",
    ],
)
def test_unacceptable_accept_is_refused(accept: str) -> None:
    with pytest.raises(UnacceptableAccept):
        encode([{"label": "a"}], accept)


def test_csv_answers_have_a_header() -> None:
    body, _ = encode([{"label": "a,b", "score": 1.0}, {"label": "c", "score": 0.5}], "text/csv")
    rows = list(csv.DictReader(io.StringIO(body.decode(), newline="")))
    assert rows == [{"label": "a,b", "score": "1.0"}, {"label": "c", "score": "0.5"}]
    assert body.startswith(b"label,score\r\n")


@pytest.mark.parametrize("answer", [[[0.1]], [], "x", [{"a": 1}, {"b": 2}]])
def test_answers_that_are_not_a_table_are_refused_as_csv(answer: Any) -> None:
    with pytest.raises(UnacceptableAccept):
        encode(answer, "text/csv")
