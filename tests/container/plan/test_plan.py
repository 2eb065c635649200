"""How many models fit: the formula compared with a simulated cache, and the command's output."""

import random
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container.plan import sizing
from tests import artifacts

MIB = 1 << 20


def simulated(sizes: list[int], shares: list[float], budget: int) -> float:
    """The hit ratio of a cache that evicts the least recently used, over seeded requests."""
    generator = random.Random(1)
    cache: OrderedDict[int, int] = OrderedDict()
    requests = generator.choices(range(len(sizes)), shares, k=60_000)
    hits = 0
    for number, model in enumerate(requests):
        hits += model in cache and number >= 10_000
        cache[model] = sizes[model]
        cache.move_to_end(model)
        while sum(cache.values()) > budget:
            cache.popitem(last=False)
    return hits / 50_000


@pytest.mark.parametrize("skew", [0.0, 0.7, 0.9, 1.1])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_formula_agrees_with_a_simulated_cache(skew: float, share: float) -> None:
    generator = random.Random(2)
    sizes = [generator.randint(1, 9) * MIB for _ in range(60)]
    shares = sizing.popularity(len(sizes), skew)
    budget = int(share * sum(sizes))
    expected = simulated(sizes, shares, budget)
    assert sizing.hit_ratio(sizes, shares, budget) == pytest.approx(expected, abs=0.02)


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=30),
    st.floats(0, 2),
    st.integers(1, 40_000),
)
def test_more_memory_never_hits_less(sizes: list[int], skew: float, budget: int) -> None:
    """For models that fit alone; a model that does not fit takes no memory at all."""
    budget = max(budget, *sizes)
    shares = sizing.popularity(len(sizes), skew)
    ratio = sizing.hit_ratio(sizes, shares, budget)
    assert 0 <= ratio <= sizing.hit_ratio(sizes, shares, 2 * budget) + 1e-9 <= 1 + 2e-9
    assert sum(shares) == pytest.approx(1)
    if sum(sizes) <= budget:
        assert ratio == pytest.approx(1)
        assert sizing.fitting(sizes, budget) == len(sizes)


@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=30),
    st.floats(0, 2),
    st.integers(1, 40_000),
    st.integers(1, 40_000),
)
def test_a_loaded_model_is_on_the_gpu_or_in_main_memory(
    sizes: list[int], skew: float, main: int, device: int
) -> None:
    instance = sizing.InstanceType("x", 2, main, device)
    shares = sizing.popularity(len(sizes), skew)
    found = sizing.tiers(sizes, shares, instance)
    assert 0 <= found.on_device <= found.loaded <= len(sizes)
    assert 0 <= found.promotions <= found.hits <= 1 + 1e-9
    assert found.on_device == sizing.fitting(
        [size for size in sizes if size <= instance.budget_nbytes], instance.budget_nbytes
    )
    if sum(sizes) <= instance.budget_nbytes:
        assert (found.loaded, found.promotions) == (len(sizes), 0)
        assert found.hits == pytest.approx(1)


def test_without_a_gpu_nothing_is_promoted() -> None:
    found = sizing.tiers([10] * 4, sizing.popularity(4, 0.0), sizing.InstanceType("x", 2, 30))
    assert (found.loaded, found.on_device, found.promotions) == (2, 2, 0.0)
    assert found.hits == pytest.approx(0.5, abs=0.05)


def test_what_is_not_on_the_gpu_is_promoted() -> None:
    """Ten models of 10 bytes with equal traffic; memory for 4 in main memory and 4 on the GPU."""
    instance = sizing.InstanceType("x", 2, 58, 48)
    found = sizing.tiers([10] * 10, sizing.popularity(10, 0.0), instance)
    assert (found.loaded, found.on_device) == (8, 4)
    assert found.hits == pytest.approx(0.81, abs=0.01)
    assert found.promotions == pytest.approx(0.4, abs=0.01)


def plan(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "container", "plan", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_command(tmp_path: Path) -> None:
    """The bytes are those in the ledger: four per parameter on a CPU, as stored on a GPU."""
    directory = artifacts.bert_classifier(tmp_path / "classifier")
    done = plan(directory, "--copies", 100_000, "--instance", "ml.m5.xlarge")
    assert done.returncode == 0, done.stderr
    nbytes = int(re.findall(r"classifier +([\d,]+) bytes", done.stdout)[0].replace(",", ""))
    expected = int(0.7 * (16 << 30)) // nbytes
    (line,) = re.findall(r"ml\.m5\.xlarge .*", done.stdout)
    *figures, hits, workers = line.split()[1:]
    assert figures == ["11.2", "GiB", str(min(expected, 100_000))]
    assert 0 < float(hits) <= 1
    assert workers == "4"


def test_the_command_for_gpus(tmp_path: Path) -> None:
    directory = artifacts.bert_classifier(tmp_path / "classifier")
    done = plan(directory, "--copies", 100_000, "--instance", "ml.g5.xlarge")
    assert done.returncode == 0, done.stderr
    header, line = done.stdout.splitlines()[-2:]
    headings = "instance, main memory, loaded, hit ratio, GPU memory, on GPU, promoted, workers"
    assert ", ".join(re.split(r" {2,}", header.strip())) == headings
    cells = re.split(r" {2,}", line.strip())
    assert (cells[1], cells[4], cells[6], cells[7]) == ("11.2 GiB", "18.7 GiB", "0.000", "1")
    assert cells[2] == cells[5]


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = plan(tmp_path / "empty", "--instance", "ml.g5.xlarge")
    assert done.returncode == 1
    assert "cannot be loaded: not a model" in done.stdout


def test_an_unknown_instance_type_is_refused(tmp_path: Path) -> None:
    assert "unknown instance type ml.x1" in plan(tmp_path, "--instance", "ml.x1").stderr


@pytest.mark.parametrize("dtype", ["bfloat16", "bf16", "BF16", "torch.bfloat16"])
def test_usual_spellings_of_a_dtype(tmp_path: Path, dtype: str) -> None:
    """bfloat16 and float16 need half the bytes of float32."""
    directory = artifacts.bert_classifier(tmp_path / "classifier")
    wide, narrow = (
        re.findall(r"classifier +([\d,]+) bytes", plan(directory, "--dtype", name).stdout)[0]
        for name in ("float32", dtype)
    )
    assert int(wide.replace(",", "")) == 2 * int(narrow.replace(",", ""))


def test_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    done = plan(tmp_path, "--dtype", "float8")
    assert done.returncode == 2
    assert "'float8' is not allowed: give one of auto, float32, bfloat16" in done.stderr


def test_a_model_has_to_fit_on_one_of_several_gpus() -> None:
    main, gpu = 1 << 40, 100
    one, four = (sizing.InstanceType("x", 8, main, gpu, gpus=count) for count in (1, 4))
    assert four.budget_nbytes == 4 * one.budget_nbytes == 340
    assert sizing.tiers([86, 85], [0.5, 0.5], four).hits == 0.5


@pytest.mark.parametrize(
    ("name", "workers"),
    [("ml.m5.large", 2), ("ml.c5.4xlarge", 16), ("ml.g5.xlarge", 1), ("ml.g5.12xlarge", 4)],
)
def test_workers_follow_cores_or_gpus(name: str, workers: int) -> None:
    (instance,) = (one for one in sizing.INSTANCE_TYPES if one.name == name)
    assert instance.workers == workers
