"""Any value of a `generate` parameter gives an answer or a 400, and no NaN distribution, fatal on a GPU."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from model_handler.errors import InvalidRequest, ModelLoadFailed
from model_handler.handlers import bounds
from model_handler.handlers.generation import Scores
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.messages import InferenceResponse
from tests import artifacts
from tests.model_handler.harness import answers, loaded, loader, refusal, run

# transformers warns about combinations of parameters
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def gpt2(root: Path) -> Iterator[PipelineHandler]:
    with loaded(artifacts.gpt2(root / "gpt2"), "text-generation") as handler:
        yield handler


@pytest.fixture(scope="module")
def bart(root: Path) -> Iterator[PipelineHandler]:
    path = artifacts.bart(root / "bart", task_specific_params={})
    with loaded(path, "text2text-generation") as handler:
        yield handler


class Draws(TorchFunctionMode):
    """Records invalid distributions from which a token is sampled."""

    def __init__(self) -> None:
        super().__init__()
        self.unsound: list[torch.Tensor] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.multinomial:
            (weights, *_) = args
            sound = (
                weights.isfinite().all() and (weights >= 0).all() and (weights.sum(-1) > 0).all()
            )
            if not sound:
                self.unsound.append(weights)
        return function(*args, **(kwargs or {}))


# ---- any value for any parameter ----

_TINY, _HUGE = 1e-300, 1e300
_NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 0.5, 1e-40, -1e-40, 1e40, _TINY, -_TINY, _HUGE, -_HUGE]),
    st.sampled_from(
        [float("nan"), float("inf"), -float("inf"), 10**30, -(10**30), 2**63, 0.01, 100]
    ),
    st.floats(),
    st.integers(-3, 70),
)
_TOKENS = st.one_of(st.integers(0, 300), st.sampled_from([-1, 10**6, 2**63, 0.5, None, "a", True]))
_LISTS = st.one_of(
    st.lists(_TOKENS, max_size=4),
    st.just(list(range(400))),
    st.just(list(range(1000))),
    st.lists(st.lists(_TOKENS, max_size=3), max_size=3),
    st.lists(st.tuples(st.lists(_TOKENS, max_size=2), _NUMBERS), max_size=3),
    st.tuples(_NUMBERS, _NUMBERS),
)
_ANYTHING: st.SearchStrategy[Any] = st.one_of(
    _NUMBERS, _LISTS, st.booleans(), st.sampled_from([None, "never", "", {}])
)


def _usual(name: str) -> st.SearchStrategy[Any]:
    """Values of the parameter's type and mostly in its range, which reach `generate`."""
    if name in bounds.NUMBERS:
        number = bounds.NUMBERS[name]
        inside = st.integers(int(number.low), min(int(number.high), 70))
        return inside if number.whole else st.one_of(inside, st.floats(number.low, number.high))
    if name == "exponential_decay_length_penalty":
        return st.tuples(st.integers(0, 5), st.floats(0.01, 100))
    if name == "sequence_bias":
        pair = st.tuples(
            st.lists(st.integers(0, 300), min_size=1, max_size=2), st.floats(-1e4, 1e4)
        )
        return st.lists(pair.map(list), min_size=1, max_size=3)
    if name == "bad_words_ids":
        word = st.lists(st.integers(0, 300), min_size=1, max_size=2)
        return st.one_of(
            st.lists(word, min_size=1, max_size=3), st.just([[each] for each in range(400)])
        )
    if name.endswith("tokens"):
        return st.one_of(st.lists(st.integers(0, 300), max_size=4), st.just(list(range(1, 399))))
    return st.integers(0, 300) if name.endswith("_id") else st.booleans()


@st.composite
def _parameters(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(
        st.lists(st.sampled_from(sorted(bounds.PARAMETERS)), min_size=1, max_size=4, unique=True)
    )
    chosen = {name: draw(_usual(name)) for name in names}
    if draw(st.booleans()):
        chosen[names[0]] = draw(_ANYTHING)
    return {"max_new_tokens": 3, "do_sample": draw(st.booleans()), **chosen}


_THOROUGH = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def check_any(handler: PipelineHandler, parameters: dict[str, Any]) -> None:
    with Draws() as draws:
        (result,) = run(handler, {"inputs": "the quick brown fox", "parameters": parameters})
    assert not draws.unsound
    if not isinstance(result, InferenceResponse):
        assert result.error == "InvalidRequest", result
        assert "\n" not in result.message


@_THOROUGH
@given(parameters=_parameters())
def test_a_decoder_accepts_or_refuses_any_parameters(
    gpt2: PipelineHandler, parameters: dict[str, Any]
) -> None:
    check_any(gpt2, parameters)


@_THOROUGH
@given(parameters=_parameters())
def test_an_encoder_decoder_accepts_or_refuses_any_parameters(
    bart: PipelineHandler, parameters: dict[str, Any]
) -> None:
    check_any(bart, parameters)


def test_values_out_of_bounds_make_invalid_distributions(gpt2: PipelineHandler) -> None:
    """`generate` itself does not check these values; each makes a distribution of NaN."""
    tokens = torch.tensor([[5, 6, 7]])
    for parameters in ({"temperature": 1e-40}, {"suppress_tokens": list(range(400))}):
        with Draws() as draws, pytest.raises(RuntimeError, match="probability"):
            gpt2.model.generate(tokens, do_sample=True, max_new_tokens=1, **parameters)
        assert draws.unsound


# All tokens: 1 to 399 are suppressed, and min_new_tokens bans token 0, the end
_ALL_BANNED = {"suppress_tokens": list(range(1, 400)), "min_new_tokens": 3}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"temperature": 1e-40}, "temperature has to be a number from 0.01 to 100, or 0"),
        ({"temperature": True}, "temperature has to be a number"),
        ({"repetition_penalty": 1e-300}, "repetition_penalty has to be a number from 0.01 to 100"),
        (
            {"sequence_bias": [[[5], 1e300]]},
            "a bias of sequence_bias has to be a number from -10000",
        ),
        ({"sequence_bias": [[[10**6], 1.0]]}, "sequence_bias has to name tokens from 0 to 399"),
        ({"bad_words_ids": [[400]]}, "bad_words_ids has to name tokens from 0 to 399"),
        ({"suppress_tokens": list(range(400))}, "suppress_tokens leave none of the 400 tokens"),
        ({"num_beams": 65}, "num_beams has to be a whole number from 1 to 64"),
        ({"num_return_sequences": 10**9}, "num_return_sequences has to be a whole number"),
        ({"exponential_decay_length_penalty": [0, 1e300]}, "the factor of exponential_decay"),
        ({"top_p": 1.5}, "top_p has to be a number from 0 to 1"),
        ({"max_time": -1}, "max_time has to be a number from 0.001"),
        (_ALL_BANNED, "leave no token"),
    ],
)
def test_the_refusal_names_parameter_and_range(
    gpt2: PipelineHandler, parameters: dict[str, Any], said: str
) -> None:
    document = {"inputs": "the fox", "parameters": {"do_sample": True, **parameters}}
    result = refusal(gpt2, document)
    assert result.error == "InvalidRequest"
    assert said in result.message


def test_infinities_and_nan_are_out_of_range() -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        for name in bounds.NUMBERS:
            with pytest.raises(InvalidRequest, match=name):
                bounds.check({name: value}, 400)


def test_a_request_without_tokens_left_does_not_affect_its_batch(gpt2: PipelineHandler) -> None:
    banned = {"do_sample": True, **_ALL_BANNED}
    good, bad = run(
        gpt2,
        {"inputs": "the fox", "parameters": {"do_sample": True}},
        {"inputs": "the fox", "parameters": banned},
    )
    assert isinstance(good, InferenceResponse)
    assert not isinstance(bad, InferenceResponse)


def test_temperature_0_is_greedy_decoding(gpt2: PipelineHandler) -> None:
    cold = {"do_sample": True, "temperature": 0, "max_new_tokens": 8}
    greedy = {"do_sample": False, "max_new_tokens": 8}
    ours = [
        answers(gpt2, {"inputs": "the quick", "parameters": each}) for each in (cold, cold, greedy)
    ]
    assert ours[0] == ours[1] == ours[2]


def test_whole_numbers_are_accepted_for_decimals(gpt2: PipelineHandler) -> None:
    parameters = {"temperature": 2, "repetition_penalty": 2, "sequence_bias": [[[5], 1]]}
    parameters |= {"do_sample": True, "max_new_tokens": 2, "suppress_tokens": 7}
    answers(gpt2, {"inputs": "the quick", "parameters": parameters})


def test_scores_are_made_safe_to_sample_from() -> None:
    nan, infinite = float("nan"), float("inf")
    scores = Scores()
    fine = scores(None, torch.tensor([[0.5, -infinite, 2.0], [infinite, 1.0, -infinite]]))
    assert not scores.lost
    assert fine[0].tolist() == [0.5, -infinite, 2.0]
    assert (fine[1] / 0.01).softmax(-1).tolist() == [1.0, 0.0, 0.0]
    for row in ([nan, 0.0, 1.0], [-infinite] * 3):
        scores = Scores()
        assert scores(None, torch.tensor([row])).isfinite().all()
        assert scores.lost


def test_the_ranges_are_documented() -> None:
    text = (Path(__file__).parents[3] / "docs/models.md").read_text(encoding="utf-8")
    for name, number in bounds.NUMBERS.items():
        (row,) = (line for line in text.splitlines() if f"`{name}`" in line and "| a " in line)
        assert row.rstrip(" |").endswith(str(number)), name


# ---- defaults of an artifact ----


def refused(path: Path, task: str) -> str:
    with pytest.raises(ModelLoadFailed) as caught:
        loader().load(path, task)
    return str(caught.value)


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"do_sample": True, "temperature": 1e-40}, "temperature has to be a number from 0.01"),
        ({"repetition_penalty": 1e-300}, "repetition_penalty has to be a number"),
        ({"forced_eos_token_id": 10**6}, "forced_eos_token_id has to name tokens from 0 to 399"),
        ({"num_beams": 10**6}, "num_beams has to be a whole number from 1 to 64"),
    ],
)
def test_defaults_out_of_range_fail_the_load(
    tmp_path: Path, defaults: dict[str, Any], said: str
) -> None:
    path = artifacts.gpt2(tmp_path)
    (path / "generation_config.json").write_text(json.dumps(defaults))
    message = refused(path, "text-generation")
    assert "generation_config.json" in message
    assert said in message


def test_task_specific_defaults_out_of_range_fail_the_load(tmp_path: Path) -> None:
    hints = {"summarization": {"length_penalty": 1e300, "num_beams": 2}}
    path = artifacts.bart(tmp_path, task_specific_params=hints)
    assert "length_penalty" in refused(path, "summarization")


def test_a_padding_token_outside_the_vocabulary_is_ignored(tmp_path: Path) -> None:
    """`-1` would be looked up after one of several sequences has ended."""
    path = artifacts.gpt2(tmp_path)
    defaults = {"pad_token_id": -1, "bos_token_id": -1, "eos_token_id": list(range(1, 400))}
    (path / "generation_config.json").write_text(json.dumps(defaults))
    with loaded(path, "text-generation") as handler:
        parameters: dict[str, Any] = {
            "do_sample": True,
            "num_return_sequences": 8,
            "max_new_tokens": 8,
        }
        parameters |= {"suppress_tokens": list(range(1, 300))}
        (several,) = answers(handler, {"inputs": "the quick", "parameters": parameters})
        assert len(several) == 8


def test_a_default_temperature_of_0_is_greedy_decoding(tmp_path: Path) -> None:
    path = artifacts.gpt2(tmp_path)
    defaults = {"do_sample": True, "temperature": 0.0}
    (path / "generation_config.json").write_text(json.dumps(defaults))
    document = {"inputs": "the quick", "parameters": {"max_new_tokens": 8}}
    greedy = {"inputs": "the quick", "parameters": {"max_new_tokens": 8, "do_sample": False}}
    with loaded(path, "text-generation") as handler:
        assert answers(handler, document) == answers(handler, greedy)
