"""Text generation, images and audio: batched answers equal those of the plain pipeline."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_handler.messages import InferenceRequest
from tests import artifacts
from tests.model_handler.harness import answers, loaded, refusal
from tests.model_handler.pairs import GREEDY, TEXTS, Pair, assert_same, groups, pair

# ---- generation ----


def test_text_generation(generator: Pair) -> None:
    generator.check(
        [
            *({"inputs": text, "parameters": GREEDY} for text in TEXTS),
            {"inputs": TEXTS, "parameters": GREEDY},
            {"inputs": TEXTS[1], "parameters": GREEDY | {"return_full_text": False}},
            {"inputs": TEXTS[1], "parameters": GREEDY | {"num_beams": 3}},
            {
                "inputs": TEXTS[0],
                "parameters": GREEDY | {"num_beams": 3, "num_return_sequences": 2},
            },
            {"inputs": TEXTS[2], "parameters": GREEDY | {"repetition_penalty": 1.9}},
            {"inputs": TEXTS[0], "parameters": GREEDY | {"repetition_penalty": 1.9}},
            {"inputs": TEXTS[1], "parameters": GREEDY | {"return_tensors": True}},
            {"inputs": TEXTS[2], "parameters": GREEDY | {"return_tensors": True}},
            {"inputs": TEXTS[2], "parameters": GREEDY | {"stop_sequence": "e"}},
        ]
    )


def test_max_length_replaces_the_default_of_new_tokens(generator: Pair) -> None:
    """Compared with the model, because the plain pipeline of transformers 5.17 ignores it."""
    parameters = {"do_sample": False, "max_length": 40}
    tokenizer, model = generator.handler.processors[0], generator.handler.model
    for text in (TEXTS[2], TEXTS[0]):
        tokens = model.generate(**tokenizer(text, return_tensors="pt"), **parameters)
        assert tokens.shape[1] <= 40
        expected = tokenizer.decode(tokens[0], skip_special_tokens=True)
        (answer,) = answers(generator.handler, {"inputs": text, "parameters": parameters})
        assert answer == [{"generated_text": expected}]


def test_max_length_of_the_checkpoint_replaces_it_too(root: Path) -> None:
    path = artifacts.gpt2(root / "gpt2_of_12_tokens")
    file = path / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_length": 12}))
    parameters = {"do_sample": False, "return_tensors": True}
    shorter = parameters | {"max_new_tokens": 2}
    with loaded(path, "text-generation") as handler:
        (total,), (new,) = answers(
            handler,
            {"inputs": "fox", "parameters": parameters},
            {"inputs": "fox", "parameters": shorter},
        )
        prompt = len(handler.processors[0].tokenize("fox"))
    assert len(total["generated_token_ids"]) == 12
    assert len(new["generated_token_ids"]) == prompt + 2


def test_prompts_of_different_lengths_share_a_batch(generator: Pair) -> None:
    prompts = [{"inputs": text, "parameters": GREEDY} for text in TEXTS]
    assert groups(generator.handler, *prompts) == 1


def test_padding_sensitive_parameters_prevent_padding(generator: Pair) -> None:
    penalised = GREEDY | {"repetition_penalty": 1.9}
    prompts = [{"inputs": text, "parameters": penalised} for text in TEXTS]
    assert groups(generator.handler, *prompts) == len(TEXTS)


def test_prompts_beyond_the_models_maximum_are_refused(generator: Pair) -> None:
    result = refusal(generator.handler, {"inputs": "x " * 500})
    assert result.error == "InvalidRequest"
    assert "1000 tokens" in result.message
    assert "at most 64" in result.message


def test_more_new_tokens_than_fit_are_refused(generator: Pair) -> None:
    asked = {"inputs": "x", "parameters": {"max_new_tokens": 100}}
    assert "101 tokens" in refusal(generator.handler, asked).message


def test_the_default_of_new_tokens_is_cut_to_what_fits(generator: Pair) -> None:
    """The plain pipeline asks for 256 tokens and fails in the position table."""
    document = {"inputs": "x", "parameters": {"do_sample": False, "return_tensors": True}}
    (answer,) = answers(generator.handler, document)
    assert 1 < len(answer[0]["generated_token_ids"]) <= 64


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": "5"},
        {"max_new_tokens": True},
        {"num_beams": 2.5},
        {"do_sample": False, "num_return_sequences": 3},
        {"do_sample": True, "temperature": -1.0},
        {"eos_token_id": 10**6},
        {"custom_generate": "someone/some-code"},
        {"assistant_model": "someone/some-model"},
        {"trust_remote_code": True},
        {"generation_config": {"max_new_tokens": 1}},
        {"cache_implementation": "static"},
        {"stopping_criteria": []},
        {"tokenizer_encode_kwargs": {"padding": "max_length"}},
    ],
)
def test_bad_generation_parameters_are_refused(generator: Pair, parameters: dict[str, Any]) -> None:
    result = refusal(generator.handler, {"inputs": "x", "parameters": parameters})
    assert result.error == "InvalidRequest", result
    assert "\n" not in result.message


def test_generation_ends_at_its_deadline(generator: Pair) -> None:
    result = refusal(generator.handler, {"inputs": "x"}, timeout_s=0.001)
    assert result.error == "DeadlineExceeded"


# ---- images and audio ----


def picture(size: tuple[int, int], seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def test_image_classification(root: Path) -> None:
    bodies = [picture((40, 50), 1), picture((30, 30), 2), picture((200, 10), 3)]
    for each in pair(root, artifacts.vit, "image-classification"):
        requests = [InferenceRequest(body, "image/png") for body in bodies]
        ours = answers(each.handler, *requests)
        for body, answer in zip(bodies, ours, strict=True):
            image = Image.open(io.BytesIO(body)).convert("RGB")
            assert_same(answer, each.plain({"inputs": image}))
        broken = InferenceRequest(bodies[0][:100], "image/png")
        assert refusal(each.handler, broken).error == "InvalidRequest"


def test_speech_recognition(root: Path) -> None:
    sounds = [artifacts.wave(0.5), artifacts.wave(0.5, seed=1), artifacts.wave(0.8, seed=2)]
    for each in pair(root, artifacts.wav2vec2, "automatic-speech-recognition"):
        documents = [
            {"inputs": {"raw": sound.tolist(), "sampling_rate": 16000}} for sound in sounds
        ]
        assert groups(each.handler, *documents) == 2
        chunked = documents[2] | {"parameters": {"chunk_length_s": 0.3, "stride_length_s": 0.05}}
        timed = documents[0] | {"parameters": {"return_timestamps": "char"}}
        ours = answers(each.handler, *documents, chunked, timed)
        for answer, document in zip(ours, [*documents, chunked, timed], strict=True):
            sound = np.asarray(document["inputs"]["raw"], np.float32)
            plain = each.plain(document | {"inputs": sound})
            assert_same(answer, json.loads(json.dumps(plain)))
