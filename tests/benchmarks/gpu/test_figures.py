"""Parsing of numbers from responses, from nvidia-smi and from pytest."""

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.gpu import callers, driver
from benchmarks.gpu.callers import Ask, CallerAnswer
from benchmarks.gpu.day import Day
from benchmarks.gpu.sections import custom_code, density, suite, swap
from benchmarks.gpu.truth import TOLERANCE, Truth, difference
from tests.benchmarks.fake_server import serving

# Output of real machines
H100 = """\
index, name, memory.total [MiB], clocks.current.sm [MHz], driver_version
0, NVIDIA H100 80GB HBM3, 81559 MiB, 345 MHz, 590.48.01
1, NVIDIA H100 80GB HBM3, 81559 MiB, 345 MHz, 590.48.01
"""
NO_DRIVER = """\
NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest \
NVIDIA driver is installed and running.
"""

# ---- nvidia-smi ----


def test_the_first_device_by_the_header_without_units() -> None:
    found = driver.parse(H100)
    assert found is not None
    assert found["name"] == "NVIDIA H100 80GB HBM3"
    assert found["driver_version"] == "590.48.01"
    assert driver.mib(found["memory.total"]) == 81559


@pytest.mark.parametrize("text", ["", NO_DRIVER, "No devices were found\n", "name\n"])
def test_what_is_no_table_is_none(text: str) -> None:
    assert driver.parse(text) is None


def test_what_the_driver_does_not_know_is_left_out() -> None:
    text = "name, memory.used [MiB], power.limit [W]\nNVIDIA A10G, [N/A], [Not Supported]\n"
    assert driver.parse(text) == {"name": "NVIDIA A10G"}


@pytest.mark.parametrize("amount", [None, "", "345 MHz", "[N/A]", "MiB"])
def test_no_amount_is_none(amount: str | None) -> None:
    assert driver.mib(amount) is None


def test_growth_needs_both_figures() -> None:
    assert driver.grown(400.0, 1400.5) == 1000.5
    assert driver.grown(None, 1.0) is None
    assert driver.grown(1.0, None) is None


# ---- percentiles and rates ----


def test_the_spread_of_a_hundred_samples() -> None:
    samples = [number / 1e3 for number in range(100, 0, -1)]
    assert callers.spread(samples) == {"count": 100, "p50_ms": 50, "p95_ms": 95, "p99_ms": 99}


def test_the_spread_of_one_sample_and_of_none() -> None:
    assert callers.spread([0.25])["p99_ms"] == 250
    assert callers.spread([]) == {}


def answered(seconds: float, status: int = 200, body: bytes = b"") -> CallerAnswer:
    return CallerAnswer(Ask("m0", {"inputs": "a"}), status, seconds, body)


def test_the_rate_of_a_return_is_what_the_first_answer_takes_longer() -> None:
    first, second = [answered(0.030)] * 3, [answered(0.010)] * 3
    found = swap.returned(200_000_000, first, second, demoted=True)
    assert found == {"miss_ms": 30, "hot_ms": 10, "swap_in_GBps": 10}


def test_without_a_return_there_is_no_rate() -> None:
    first, second = [answered(0.030)], [answered(0.010)]
    assert swap.returned(1, first, second, demoted=False)["swap_in_GBps"] is None
    assert swap.returned(1, second, first, demoted=True)["swap_in_GBps"] is None
    assert swap.returned(1, [], [], demoted=True) == {"swap_in_GBps": None}


def test_what_a_model_takes_beyond_its_weights() -> None:
    assert density.per_model(210.5, 208 << 20) == {
        "MiB_per_model": 210.5,
        "beyond_weights_MiB": 2.5,
    }
    assert density.per_model(None, 1)["MiB_per_model"] is None


def test_what_the_ledger_does_not_charge() -> None:
    before = {"driver_MiB": 500.0, "ledger_MiB": 10.0}
    after = {"driver_MiB": 3052.0, "ledger_MiB": 77.0}
    assert custom_code.uncharged(before, after) == 2485
    assert custom_code.uncharged(before, {"driver_MiB": None, "ledger_MiB": 77.0}) is None


# ---- answers beside the CPU's ----


def body(label: str, score: float | str) -> bytes:
    return json.dumps([{"label": label, "score": score}]).encode()


@pytest.mark.parametrize(
    "answer",
    [b"", b"no JSON", b"[]", b"{}", b"null", body("LABEL_1", 0.7), body("LABEL_0", "x")],
)
def test_another_label_or_no_answer_is_as_wrong_as_can_be(answer: bytes) -> None:
    assert difference(answer, ("LABEL_0", 0.7)) == float("inf")


def test_the_difference_of_scores() -> None:
    assert difference(body("LABEL_0", 0.69), ("LABEL_0", 0.7)) == pytest.approx(0.01)


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    answers = [[["LABEL_0", 0.7], ["LABEL_0", 0.8]], [["LABEL_1", 0.6], ["LABEL_1", 0.5]]]
    stored = {"texts": ["a", "b"], "answers": answers}
    (tmp_path / "expected.json").write_text(json.dumps(stored))
    return Truth(Day("cpu", True, tmp_path, tmp_path))


def test_an_answer_is_compared_with_its_own_models_to_the_same_text(truth: Truth) -> None:
    def to(model: str, number: int, label: str, score: float, status: int = 200) -> CallerAnswer:
        return CallerAnswer(truth.ask(model, number), status, 0.1, body(label, score))

    right = to("m1-7", 3, "LABEL_1", 0.505)
    other_model, other_text = to("m0", 0, "LABEL_1", 0.6), to("m0", 1, "LABEL_0", 0.7)
    refused, nan = to("m0", 0, "LABEL_0", 0.7, 503), to("m0", 0, "LABEL_0", float("nan"))
    assert [truth.right(each) for each in (right, other_model, other_text, refused, nan)] == [
        True,
        *[False] * 4,
    ]
    verdict = truth.verdict([right, other_model, other_text, refused, nan])
    assert (verdict["compared"], verdict["wrong"]) == (4, 3)
    assert verdict["largest_difference_of_right"] == pytest.approx(0.005)
    assert verdict["largest_difference_of_right"] < TOLERANCE


# ---- requests ----


def test_many_at_once_have_their_answers_and_statuses() -> None:
    seen: list[tuple[str, str]] = []

    async def answer(verb: str, path: str, sent: bytes) -> int:
        seen.append((path, json.loads(sent)["inputs"]))
        return 200 if path == "/models/a/invoke" else 503

    async def ask() -> list[CallerAnswer]:
        async with serving(answer) as port:
            asks = [callers.text_of(name, "text") for name in "abab"]
            return await callers.together_async(port, iter(asks), 2)

    answers = asyncio.run(ask())
    assert sorted(seen) == [("/models/a/invoke", "text")] * 2 + [("/models/b/invoke", "text")] * 2
    assert callers.statuses(answers) == {"200": 2, "503": 2}
    assert {answer.body for answer in answers} == {b"ok"}


def test_a_connection_that_ends_is_an_answer_of_its_own() -> None:
    async def hang_up(verb: str, path: str, sent: bytes) -> int | None:
        return None

    async def ask() -> list[CallerAnswer]:
        async with serving(hang_up) as port:
            return await callers.together_async(port, iter([callers.text_of("a", "text")] * 3), 1)

    assert callers.statuses(asyncio.run(ask())) == {"0": 3}


def test_a_volley_is_timed_to_its_last_answer() -> None:
    async def ask() -> list[tuple[float, list[CallerAnswer]]]:
        all_here = asyncio.Barrier(4)

        async def wait_for_all(verb: str, path: str, sent: bytes) -> int:
            await all_here.wait()
            return 200

        async with serving(wait_for_all) as port:
            asks = [callers.text_of(name, "text") for name in "abcd"]
            return await callers.volleys_async(port, asks, 1)

    ((seconds, answers),) = asyncio.run(ask())
    assert callers.statuses(answers) == {"200": 4}
    assert seconds >= max(answer.seconds for answer in answers)


# ---- pytest ----


def test_pytests_last_line_as_numbers() -> None:
    line = "2 failed, 11 passed, 1 skipped, 90 deselected, 3 warnings, 1 error in 20.11s"
    assert suite.counts(line) == {"passed": 11, "failed": 2, "skipped": 1, "error": 1}
    assert suite.counts("") == {"passed": 0, "failed": 0, "skipped": 0, "error": 0}


def test_files_with_gpu_tests_are_found() -> None:
    names = {path.name for path in suite.marked(Path(__file__).parents[2])}
    assert {"test_device.py", "test_upload.py"} <= names
    assert "test_load.py" not in names
    assert "test_device_facts.py" not in names  # of the fake CUDA runtime
