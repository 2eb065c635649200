"""Large JSON bodies are parsed in pieces: with the same result, and while other threads run."""

import json
import math
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_handler.budgets import deadlines
from model_handler.codecs import large_json
from model_handler.errors import DeadlineExceeded
from tests.model_handler.codecs.held import held_s

TEXTS = st.sampled_from(["", "a", 'é"', "\\\\", '\\"', ",[]{}:", "\ud800", "long " * 20])
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.just(2**80), st.just(math.inf)
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5)
)
MARKS = [b"", b",", b"[", b"]", b"{", b"}", b":", b'"', b"\\", b" ", b"1", b"\xff"]


def outcome(parse: Callable[[bytes], Any], body: bytes) -> str:
    """The value, with NaN equal to NaN, or that it has none."""
    try:
        return repr(parse(body))
    except ValueError:
        return "no JSON"


@pytest.fixture(params=[(8, 8), (40, 64)], ids=str)
def _small_pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    piece, block = request.param
    monkeypatch.setattr(large_json, "PIECE_NBYTES", piece)
    monkeypatch.setattr(large_json, "_BLOCK_NBYTES", block)


@pytest.mark.usefixtures("_small_pieces")
def test_values_and_refusals_are_those_of_json() -> None:
    drawn = random.Random(0)

    @settings(max_examples=40)
    @given(VALUES, st.booleans(), st.sampled_from([None, 1]))
    def check(value: Any, ascii_only: bool, indent: int | None) -> None:
        text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        body = text.encode("utf-8", "surrogatepass")
        at = drawn.randrange(len(body) + 1)
        damaged = body[:at] + drawn.choice(MARKS) + body[at + drawn.randrange(2) :]
        for each in (body, damaged):
            assert outcome(large_json.loads, each) == outcome(json.loads, each)

    check()


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"inputs": {str(n): n for n in range(150_000)}}).encode(),
        b'{"inputs":[' + b"1," * 1_500_000 + b"1]}",
        b'{"inputs":[' + b"[1,2]," * 300_000 + b"[]]}",
        b'[{"a":[' + b'"x",' * 600_000 + b'"x"]}]',
    ],
    ids=["keys", "numbers", "rows", "texts"],
)
def test_other_threads_run_meanwhile(body: bytes) -> None:
    assert held_s(lambda: large_json.loads(body), limit_s=0.1) < 0.1


def test_nesting_around_large_values_is_limited() -> None:
    deep = large_json.MAX_DEPTH + 1
    large = b"1," * large_json.PIECE_NBYTES + b"1"
    with pytest.raises(RecursionError):
        large_json.loads(b"[" * deep + large + b"]" * deep)
    with pytest.raises(RecursionError):
        large_json.loads(b"[" * 1_000_000)


def test_errors_name_their_position_in_the_body() -> None:
    body = b"[\n" + b"1,\n" * 100_000 + b"x]"
    with pytest.raises(json.JSONDecodeError, match="Expecting value: line 100002 column 1 "):
        large_json.loads(body)


def test_a_deadline_ends_parsing() -> None:
    deadlines.current.until = time.monotonic() - 1
    with pytest.raises(DeadlineExceeded):
        large_json.loads(b"[" + b"1," * 200_000 + b"1]")
