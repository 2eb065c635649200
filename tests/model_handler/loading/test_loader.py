"""Loading and unloading Hugging Face artifacts."""

import gc
import shutil
import threading
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers

from model_handler.device.device import CpuDevice, CudaDevice
from model_handler.loading import processors
from model_handler.loading.loader import TorchLoader
from model_handler.sharing.turnstile import Turnstile, WorkKind
from tests import artifacts
from tests.model_handler.harness import answers, implied_task, loaded, loader
from tests.model_handler.tensors_alive import (
    edit,
    living_tensors,
    retensor,
)

pytestmark = pytest.mark.usefixtures("no_tracebacks_kept")
TEXT = {"inputs": "the film was a wonderful surprise"}


# ---- loading ----


def test_nbytes_is_the_size_of_the_weights(classifier: Path) -> None:
    stored = safetensors.torch.load_file(classifier / "model.safetensors")
    weights = sum(tensor.nbytes for tensor in stored.values())
    with loaded(classifier) as handler:
        assert weights <= handler.nbytes <= weights + 2048  # position ids are computed, not stored


def test_weights_are_mapped_and_not_copied(classifier: Path) -> None:
    with loaded(classifier) as handler:
        maps = Path("/proc/self/maps").read_text()
        assert str(classifier / "model.safetensors") in maps
        start = handler.model.classifier.weight.data_ptr()
        (line,) = [each for each in maps.splitlines() if covers(each, start)]
        assert line.endswith("model.safetensors")
    del handler
    assert str(classifier / "model.safetensors") not in Path("/proc/self/maps").read_text()


def covers(line: str, address: int) -> bool:
    low, high = (int(each, 16) for each in line.split()[0].split("-"))
    return low <= address < high


def test_tied_weights_count_once(tmp_path: Path) -> None:
    with loaded(artifacts.gpt2(tmp_path)) as handler:
        model = handler.model
        assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()
        unique = {each.data_ptr(): each.nbytes for each in model.parameters()}
        assert handler.nbytes >= sum(unique.values())
        assert handler.nbytes < sum(unique.values()) + model.lm_head.weight.nbytes
        del model


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_have_the_requested_dtype(classifier: Path, dtype: str) -> None:
    with loaded(classifier) as full, loaded(classifier, dtype=dtype) as half:
        assert {str(each.dtype) for each in half.model.parameters()} == {f"torch.{dtype}"}
        assert half.nbytes < 0.51 * full.nbytes + 2048
        (exact,), (near,) = answers(full, TEXT), answers(half, TEXT)
        assert near[0]["score"] == pytest.approx(exact[0]["score"], abs=0.02)
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_a_half_precision_checkpoint_runs_in_float32_on_cpu(
    copy: Path, stored: torch.dtype
) -> None:
    retensor(copy, lambda tensors: {name: each.to(stored) for name, each in tensors.items()})
    with loaded(copy) as handler:
        assert {each.dtype for each in handler.model.parameters()} == {torch.float32}
        plain = transformers.AutoModelForSequenceClassification.from_pretrained(
            copy, dtype=torch.float32
        )
        ours = handler.model.state_dict()
        assert all(torch.equal(ours[name], each) for name, each in plain.state_dict().items())


def test_the_default_dtype_changes_only_while_no_forward_runs(copy: Path) -> None:
    """from_pretrained changes it for the whole process while it builds modules."""
    retensor(copy, lambda tensors: {name: each.half() for name, each in tensors.items()})
    turnstile = Turnstile()
    owner = TorchLoader(CpuDevice(), turnstile)
    finished = threading.Event()

    def load() -> None:
        owner.load(copy, "text-classification")
        finished.set()

    with turnstile.turn(WorkKind.BRIEF):
        thread = threading.Thread(target=load)
        thread.start()
        assert not finished.wait(0.5)
        assert torch.get_default_dtype() is torch.float32
    thread.join(timeout=30)
    assert finished.is_set()


def test_buffers_outside_the_checkpoint_keep_their_dtype(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    artifacts.gpt2(tmp_path)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    with loaded(tmp_path, dtype="bfloat16") as handler:
        assert handler.model.model.rotary_emb.inv_freq.dtype is torch.float32
        assert handler.model.lm_head.weight.dtype is torch.bfloat16


def test_a_bin_file_without_code_loads(copy: Path) -> None:
    with loaded(copy) as handler:
        ((expected,),) = answers(handler, TEXT)
    tensors = safetensors.torch.load_file(copy / "model.safetensors")
    torch.save(tensors, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with loaded(copy) as handler:
        ((answer,),) = answers(handler, TEXT)
    assert answer["label"] == expected["label"]
    assert answer["score"] == pytest.approx(expected["score"], abs=1e-6)


def test_sharded_weights_load(classifier: Path, tmp_path: Path) -> None:
    shutil.copytree(classifier, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(classifier)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    with loaded(tmp_path) as handler, loaded(classifier) as whole:
        assert answers(handler, TEXT) == answers(whole, TEXT)


def test_roberta_counts_positions_after_the_padding(tmp_path: Path) -> None:
    """A table of 66 positions holds 64 tokens; the 65th would be out of range."""
    artifacts.bert_mlm(tmp_path)
    config = transformers.RobertaConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=66, pad_token_id=1,
    )  # fmt: skip
    transformers.RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    edit(tmp_path / "tokenizer_config.json", model_max_length=512)
    with loaded(tmp_path) as handler:
        assert handler.max_tokens == 64
        answers(handler, {"inputs": "the dog " * 100})


def test_features_need_no_pooler(tmp_path: Path) -> None:
    with loaded(artifacts.bert_mlm(tmp_path), "feature-extraction") as handler:
        assert len(answers(handler, TEXT)[0][0]) > 3


# ---- sharing ----


def test_models_with_equal_files_share_a_tokenizer(tmp_path: Path) -> None:
    owner = loader()
    paths = [artifacts.bert_classifier(tmp_path / str(seed), seed=seed) for seed in range(3)]
    other = artifacts.gpt2(tmp_path / "gpt2")
    handlers = [owner.load(path, implied_task(path)) for path in [*paths, other]]
    tokenizers = [handler.pipeline.tokenizer for handler in handlers]
    assert tokenizers[0] is tokenizers[1] is tokenizers[2]
    assert tokenizers[3] is not tokenizers[0]
    assert len(owner.processors) == 2
    del tokenizers
    assert [owner.unload(handler) for handler in handlers[:2]] == [0, 0]
    assert len(owner.processors) == 2
    assert answers(handlers[2], TEXT)
    assert [owner.unload(handler) for handler in handlers[2:]] == [0, 0]
    gc.collect()
    assert len(owner.processors) == 2  # kept for a reload


def test_the_last_few_unused_tokenizers_are_kept(tmp_path: Path) -> None:
    owner = loader()
    paths = []
    for number in range(processors.KEPT + 2):
        paths.append(path := artifacts.bert_classifier(tmp_path / str(number)))
        edit(path / "tokenizer_config.json", cls_token=f"[CLS{number}]")
        assert owner.unload(owner.load(path, implied_task(path))) == 0
    gc.collect()
    assert len(owner.processors) == processors.KEPT
    again = owner.load(paths[-1], implied_task(paths[-1]))
    assert len(owner.processors) == processors.KEPT
    assert owner.unload(again) == 0


def test_large_vocabularies_are_not_kept(tmp_path: Path) -> None:
    owner = loader()
    owner.processors = processors.Processors(kept_entries=10)
    path = artifacts.bert_classifier(tmp_path)
    assert owner.unload(owner.load(path, implied_task(path))) == 0
    gc.collect()
    assert len(owner.processors) == 0


def test_tasks_do_not_share_processors_that_they_modify(tmp_path: Path) -> None:
    """text-generation pads on the left, feature-extraction on the right."""
    path = artifacts.gpt2(tmp_path)
    owner = loader()
    generator = owner.load(path, "text-generation")
    features = owner.load(path, "feature-extraction")
    assert generator.pipeline.tokenizer.padding_side == "left"
    assert features.pipeline.tokenizer.padding_side == "right"


# ---- unloading ----


def test_unloading_frees_every_weight(classifier: Path) -> None:
    gc.collect()
    before = living_tensors()
    with loaded(classifier) as handler:
        answers(handler, TEXT)
        assert living_tensors() > before
    assert living_tensors() == before


def test_unload_returns_the_bytes_still_referred_to(classifier: Path) -> None:
    owner = loader()
    handler = owner.load(classifier, "text-classification")
    held = handler.model.classifier.weight
    assert owner.unload(handler) == held.nbytes


def test_an_artifact_can_be_reloaded(classifier: Path) -> None:
    seen = []
    for _ in range(5):
        with loaded(classifier) as handler:
            seen.append(answers(handler, TEXT))
    assert seen == seen[:1] * 5


@pytest.mark.gpu
def test_unloading_frees_cuda_memory(classifier: Path) -> None:
    owner = TorchLoader(CudaDevice(0), Turnstile())
    before = torch.cuda.memory_allocated()
    handler = owner.load(classifier, "text-classification")
    assert torch.cuda.memory_allocated() - before >= handler.nbytes
    assert {each.device.type for each in handler.model.parameters()} == {"cuda"}
    assert owner.unload(handler) == 0
    assert torch.cuda.memory_allocated() == before


@pytest.mark.gpu
def test_cuda_answers_match_the_cpu(classifier: Path) -> None:
    owner = TorchLoader(CudaDevice(0), Turnstile())
    handler = owner.load(classifier, "text-classification", "float32")
    with loaded(classifier) as reference:
        (ours,), (theirs,) = answers(handler, TEXT), answers(reference, TEXT)
    assert ours[0]["label"] == theirs[0]["label"]
    assert ours[0]["score"] == pytest.approx(theirs[0]["score"], abs=1e-3)
    assert owner.unload(handler) == 0
