"""Parameters of generation that leave nothing to choose from."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from model_handler.handlers.pipeline import PipelineHandler
from model_handler.messages import Refusal
from tests.model_handler.harness import run


def unlikely(tokens: int) -> Iterator[dict[str, Any]]:
    """Parameters that could leave no token, or a distribution that is none."""
    every = [[token] for token in range(tokens)]
    most = list(range(tokens - 1))
    yield {"temperature": 1e-40}
    yield {"temperature": 0.01, "repetition_penalty": 100, "guidance_scale": 100}
    yield {"repetition_penalty": 1e-300}
    yield {"sequence_bias": [[[5], math.inf]]}
    yield {"sequence_bias": [[token, -10_000] for token in every] * 2}
    yield {"bad_words_ids": every}
    yield {"bad_words_ids": every, "num_beams": 4}
    yield {"bad_words_ids": every, "remove_invalid_values": True, "renormalize_logits": True}
    yield {"suppress_tokens": [*most, tokens - 1]}
    yield {"suppress_tokens": most, "begin_suppress_tokens": [tokens - 1]}
    yield {"suppress_tokens": most, "bad_words_ids": [[tokens - 1]]}
    yield {"suppress_tokens": list(range(1, tokens)), "min_new_tokens": 3}
    yield {"suppress_tokens": list(range(10, tokens)), "num_beams": 64}
    yield {"suppress_tokens": [0], "forced_eos_token_id": 0}
    yield {"min_p": 1.0, "top_k": 1, "top_p": 0.0, "typical_p": 0.001, "epsilon_cutoff": 1.0}
    yield {"top_k": 1, "num_beams": 4}
    yield {"guidance_scale": 1e308}
    yield {"exponential_decay_length_penalty": [0, 100], "max_new_tokens": 50}
    yield {"forced_eos_token_id": tokens}
    yield {"pad_token_id": -1}


def test_no_parameters_are_taken_for_a_fault_of_the_model(
    handlers: Callable[[str], PipelineHandler],
) -> None:
    """They are refused, or there is an answer: on a GPU another outcome ends the worker of all models."""
    handler = handlers("text-generation")
    tokens = handler.model.config.vocab_size
    refusals = 0
    for parameters in unlikely(tokens):
        whole = {"do_sample": True, "max_new_tokens": 3, **parameters}
        (result,) = run(handler, {"inputs": "the good", "parameters": whole})
        if isinstance(result, Refusal):
            assert result.error == "InvalidRequest", (parameters, result)
            refusals += 1
    assert refusals > 8
