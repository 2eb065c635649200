"""Budgets and bounds: from the settings and artifacts where they say, else from the machine.

The size of main memory is the machine's, or the container's limit in cgroup version 1 or 2.
"""

from pathlib import Path
from typing import Any

import pytest

from model_handler.artifacts.artifact import Artifact
from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Properties
from model_handler.engine.admission import (
    CONTEXT_NBYTES,
    DEVICE_SHARE,
    MAIN_MEMORY_SHARE,
    WORKER_NBYTES,
    QueueBounds,
    device_nbytes,
    host_pool,
    main_memory_nbytes,
    process_options,
    queue_bounds,
)
from model_handler.memory.pools import Tier
from model_handler.messages import Ready
from model_handler.options import EngineOptions, ProcessOptions, RequestLimits, WorkerOptions

GIB = 1 << 30
MACHINE = {"proc/meminfo": f"MemFree: 1 kB\nMemTotal: {8 * GIB // 1024} kB\n"}
V2, V1 = "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"
UNLIMITED_V1 = str(
    (1 << 63) - 4096
)  # the kernel's value without a limit: a multiple of the page size
CPU = Ready(1, "cpu", 0, 0)
GPU = Ready(1, "cuda:1", 80 * GIB, 80 * GIB - GIB // 2)
SHARED_GPU = Ready(1, "cuda:1", 80 * GIB, 60 * GIB)


@pytest.mark.parametrize(
    ("limits", "nbytes"),
    [
        ({}, 8 * GIB),
        ({V2: f"{2 * GIB}\n"}, 2 * GIB),
        ({V2: "max\n"}, 8 * GIB),
        ({V1: f"{3 * GIB}\n"}, 3 * GIB),
        ({V1: UNLIMITED_V1}, 8 * GIB),
        ({V2: f"{64 * GIB}\n"}, 8 * GIB),
    ],
)
def test_the_smaller_of_machine_and_limit(
    tmp_path: Path, limits: dict[str, str], nbytes: int
) -> None:
    for name, text in (MACHINE | limits).items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert main_memory_nbytes(tmp_path) == nbytes


@pytest.mark.parametrize("files", [{}, {"proc/meminfo": "MemFree: 1 kB\n"}], ids=str)
def test_a_machine_of_unknown_size_is_an_error(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    with pytest.raises(OSError, match="/proc/meminfo has no MemTotal"):
        main_memory_nbytes(tmp_path)


@pytest.mark.parametrize("ready", [CPU, GPU])
def test_a_budget_that_is_set_counts(ready: Ready) -> None:
    assert device_nbytes(EngineOptions(device_memory_nbytes=0), ready) == 0
    assert device_nbytes(EngineOptions(device_memory_nbytes=5 * GIB), ready) == 5 * GIB


def test_budgets_without_a_setting_leave_a_part_of_the_memory() -> None:
    options, share = EngineOptions(), int(MAIN_MEMORY_SHARE * main_memory_nbytes())
    assert device_nbytes(options, CPU) == share
    assert device_nbytes(options, SHARED_GPU) == int(DEVICE_SHARE * 60 * GIB)
    pool = host_pool(options, GPU)
    assert pool is not None
    assert (pool.tier, pool.budget) == (Tier.HOST, share)


def test_main_memory_beside_a_gpu_has_a_budget_of_its_own() -> None:
    options = EngineOptions(host_memory_nbytes=3 * GIB, device_memory_nbytes=GIB)
    pool = host_pool(options, GPU)
    assert pool is not None
    assert (pool.tier, pool.budget) == (Tier.HOST, 3 * GIB)
    assert host_pool(options, CPU) is None


SETTINGS = EngineOptions(
    worker=WorkerOptions(
        matmul_precision="high", max_response_nbytes=77, limits=RequestLimits(units=5)
    ),
    requirements_dir=Path("/requirements"),
)


def processes(**changed: Any) -> ProcessOptions:
    """What all processes get from SETTINGS."""
    common: dict[str, Any] = {"matmul_precision": "high", "max_response_nbytes": 77}
    return ProcessOptions(**common | changed, limits=RequestLimits(units=5))


def test_a_process_on_a_cpu_may_hold_as_much_as_all_models() -> None:
    expected = processes(device="cpu", memory_nbytes=GIB, worker_nbytes=WORKER_NBYTES)
    assert process_options(SETTINGS, CPU, GIB) == expected


@pytest.mark.parametrize(
    ("ready", "context", "budget", "share"),
    [(GPU, GIB // 2, 20 * GIB, 0.25), (SHARED_GPU, CONTEXT_NBYTES, 160 * GIB, 1.0)],
)
def test_a_process_on_a_gpu_gets_a_share_of_the_device(
    ready: Ready, context: int, budget: int, share: float
) -> None:
    """What the main worker's process uses, a further one will use, too; the rest belongs to others."""
    expected = processes(
        device="cuda:1", device_share=share, context_nbytes=context, worker_nbytes=context
    )
    assert process_options(SETTINGS, ready, budget) == expected


def test_processes_that_install_packages_or_change_their_user() -> None:
    options = EngineOptions(
        install_requirements=True, requirements_dir=Path("/requirements"), isolated_uids=(9, 10)
    )
    result = process_options(options, CPU, GIB)
    assert (result.requirements_dir, result.change_user) == ("/requirements", True)


ENGINE = EngineOptions(max_queue=100, max_batch_size=30, request_timeout_s=4.0)


@pytest.mark.parametrize(
    ("properties", "bounds"),
    [
        (Properties(), QueueBounds(100, 30, 0.0, 1.0)),
        (Properties(job_queue_size=7), QueueBounds(7, 30, 0.0, 1.0)),
        (Properties(batch_size=3), QueueBounds(100, 3, 0.0, 1.0)),
        (Properties(max_batch_delay_ms=50), QueueBounds(100, 30, 0.05, 1.0)),
        (Properties(max_batch_delay_ms=2500), QueueBounds(100, 30, 2.0, 1.0)),
        (Properties(scheduling_weight=8), QueueBounds(100, 30, 0.0, 8.0)),
    ],
)
def test_a_model_is_bounded_by_its_artifact_or_by_the_settings(
    properties: Properties, bounds: QueueBounds
) -> None:
    """A delay leaves half of the time limit for the batch."""
    artifact = Artifact(Path("/x"), Convention.HUGGING_FACE, "", "auto", 0, properties)
    assert queue_bounds(artifact, ENGINE) == bounds


def test_code_out_of_an_artifact_takes_one_request_at_a_time() -> None:
    artifact = Artifact(Path("/x"), Convention.INFERENCE, "", "auto", 0, Properties(batch_size=3))
    assert queue_bounds(artifact, ENGINE).batch_size == 1
