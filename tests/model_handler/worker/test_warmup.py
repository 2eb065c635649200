"""Warm-up: the first batch of a model, before it is reported as loaded."""

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch.nn.modules.module import register_module_forward_pre_hook

from model_handler.artifacts.conventions import Convention
from model_handler.device.device import CpuDevice
from model_handler.errors import InsufficientMemory
from model_handler.messages import (
    Done,
    InferenceRequest,
    InferenceResponse,
    Load,
    Loaded,
    LoadFailed,
    Refusal,
    Run,
)
from model_handler.options import EngineOptions, WorkerOptions
from model_handler.scripted.in_process import open_model
from model_handler.worker import warmup
from tests import artifacts
from tests.model_handler.formats.builders import Linear, torchscript
from tests.model_handler.front import ID, TEXT, Front
from tests.model_handler.harness import Builder, loaded, run

LANGUAGES = "give src_lang and tgt_lang"


@pytest.mark.parametrize(
    ("build", "task"),
    [
        (artifacts.bert_classifier, "text-classification"),
        (artifacts.bert_nli, "zero-shot-classification"),
        (artifacts.bert_ner, "token-classification"),
        (artifacts.bert_qa, "question-answering"),
        (artifacts.bert_mlm, "fill-mask"),
        (artifacts.bert_encoder, "feature-extraction"),
        (artifacts.gpt2, "text-generation"),
        (artifacts.marian, "translation"),
        (artifacts.bart, "summarization"),
        (artifacts.t5, "text2text-generation"),
        (artifacts.vit, "image-classification"),
        (artifacts.wav2vec2, "automatic-speech-recognition"),
    ],
)
@pytest.mark.filterwarnings("ignore:Unfeasible length constraints")
def test_the_warm_up_request_is_valid_for_the_task(
    tmp_path: Path, build: Builder, task: str
) -> None:
    with loaded(build(tmp_path), task) as handler:
        request = warmup.request(handler)
        assert request is not None
        (result,) = run(handler, request)
        assert isinstance(result, InferenceResponse), result
        if task in ("text-generation", "text2text-generation"):
            assert len(result.body) < 100  # of one token


def test_only_an_out_of_memory_error_fails_the_warm_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "model_handler.worker.warmup")
    warmup.judge(InferenceResponse(b"[]", "application/json"))
    assert not caplog.records
    warmup.judge(Refusal("InferenceFailed", "IndexError: index out of range"))
    (record,) = caplog.records
    assert vars(record)["reason"] == "IndexError: index out of range"
    with pytest.raises(InsufficientMemory, match="smallest batch"):
        warmup.judge(Refusal("InsufficientMemory", "too little"))


# ---- in a worker ----


@contextmanager
def worker(options: WorkerOptions) -> Iterator[Front]:
    front = Front(CpuDevice(), options)
    yield front
    front.close()


@pytest.mark.parametrize("warm", [True, False])
def test_a_failed_warm_up_is_only_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, warm: bool
) -> None:
    """This model's warm-up fails, since only requests name the languages to translate between."""
    caplog.set_level(logging.INFO, "model_handler.worker.warmup")
    path = artifacts.mbart(tmp_path)
    with worker(WorkerOptions(warmup=warm)) as front:
        assert isinstance(front.load(path, task="translation"), Loaded)
    reasons = [vars(record)["reason"] for record in caplog.records]
    assert [LANGUAGES in reason for reason in reasons] == [True] * warm


def test_a_warm_up_on_a_cpu_does_not_wait_for_a_forward(tmp_path: Path, classifier: Path) -> None:
    """Nor does a forward wait for it: the batch stops in the device thread until the load has ended."""
    ended = threading.Event()

    def stop(*_: object) -> None:
        if threading.current_thread().name == "device":
            assert ended.wait(60)

    other = artifacts.bert_classifier(tmp_path, seed=2)
    with worker(WorkerOptions()) as front:
        assert isinstance(front.load(classifier), Loaded)
        hook = register_module_forward_pre_hook(stop)
        front.send(Run(1, ID, [InferenceRequest(TEXT, "application/json")], 60))
        assert isinstance(front.load(other, ID + 1), Loaded)
        ended.set()
        assert isinstance(front.next(), Done)
        hook.remove()


def too_large(path: Path) -> Path:
    """A model whose key-value cache needs more memory than the address space has."""
    artifacts.gpt2(path)
    cache = {"cache_implementation": "static", "max_cache_len": 10**14}
    (path / "generation_config.json").write_text(json.dumps(cache))
    return path


def test_a_model_without_room_for_a_batch_is_not_loaded(tmp_path: Path, classifier: Path) -> None:
    path = too_large(tmp_path)
    with worker(WorkerOptions()) as front:
        report = front.load(path, task="text-generation")
        assert isinstance(report, LoadFailed)
        assert report.reason.error == "InsufficientMemory"
        assert isinstance(front.load(classifier), Loaded)
        assert isinstance(front.answer(), InferenceResponse)
    with worker(WorkerOptions(warmup=False)) as front:
        assert isinstance(front.load(path, task="text-generation"), Loaded)


def test_arrays_are_not_warmed_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The shapes of their inputs are not known."""
    caplog.set_level(logging.INFO, "model_handler.worker.warmup")
    path = torchscript(tmp_path, Linear())
    with worker(WorkerOptions()) as front:
        load = Load(ID, str(path), "", "auto", Convention.TORCHSCRIPT)
        assert isinstance(front.ask(load), Loaded)
    assert not caplog.records


def test_warm_up_in_an_isolated_process(tmp_path: Path) -> None:
    path = too_large(tmp_path)
    for warm in (True, False):
        options = EngineOptions(model_roots=(tmp_path,), worker=WorkerOptions(warmup=warm))
        if warm:
            with pytest.raises(InsufficientMemory):
                open_model(str(path), "m", options, "cpu")
        else:
            open_model(str(path), "m", options, "cpu")


def test_the_request_is_plain_json(classifier: Path) -> None:
    with loaded(classifier) as handler:
        request = warmup.request(handler)
        assert request is not None
        assert json.loads(request.body) == {"inputs": "warm"}
