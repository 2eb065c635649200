"""The cores of the container, and what they are used for."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_handler.sharing import cores

AFFINITY = len(os.sched_getaffinity(0))
V1 = "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "sys/fs/cgroup/cpu/cpu.cfs_period_us"


def root(directory: Path, **files: str) -> Path:
    """`v2`: the text of cpu.max; `quota` and `period`: those of version 1."""
    names = {"v2": "sys/fs/cgroup/cpu.max", "quota": V1[0], "period": V1[1]}
    for key, text in files.items():
        file = directory / names[key]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return directory


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, AFFINITY),
        ({"v2": "max 100000"}, AFFINITY),
        ({"v2": "100000 100000"}, 1),
        ({"v2": "50000 100000"}, 1),  # half a core is one
        ({"v2": "150000 100000"}, 1),
        ({"v2": "200000 100000"}, min(2, AFFINITY)),
        ({"v2": "100000000 100000"}, AFFINITY),
        ({"quota": "-1", "period": "100000"}, AFFINITY),
        ({"quota": "100000", "period": "100000"}, 1),
        ({"quota": "200000", "period": "100000"}, min(2, AFFINITY)),
        ({"quota": "100000"}, AFFINITY),
        ({"v2": ""}, AFFINITY),
        ({"v2": "100000 100000 100000"}, AFFINITY),  # not its format
        ({"v2": "max 100000", "quota": "100000", "period": "100000"}, 1),
    ],
)
def test_available_cores(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    assert cores.available(root(tmp_path, **files)) == expected


def test_the_affinity_limits_the_cores(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores.available(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


@given(st.integers(1, 256))
def test_at_least_one_worker_and_at_most_one_for_each_core(count: int) -> None:
    assert 1 <= cores.workers(count) <= count
    assert cores.workers(count) <= cores.workers(count + 1)


@given(st.integers(1, 64), st.integers(1, 64))
def test_threads_of_fixed_pools_leave_room(count: int, workers: int) -> None:
    threads = cores.pool_threads(count, workers)
    assert threads >= 1
    assert threads == 1 or threads * workers < count


@pytest.mark.parametrize(
    ("count", "workers", "threads"), [(1, 1, 1), (3, 1, 2), (4, 1, 3), (64, 1, 3), (9, 3, 2)]
)
def test_threads_of_a_fixed_pool(count: int, workers: int, threads: int) -> None:
    assert cores.pool_threads(count, workers) == threads
    assert type(cores.pool_threads(count, workers)) is int


work = st.floats(0, 10, allow_nan=False)


@given(work, work, st.integers(1, 64))
def test_more_work_gets_at_least_as_many_threads(one: float, other: float, count: int) -> None:
    less, more = sorted((one, other))
    assert 1 <= cores.wanted(less, count) <= cores.wanted(more, count) <= count


@given(work, st.integers(2, 64))
def test_threads_of_a_forward(work_s: float, count: int) -> None:
    """Narrow ones get one, heavy ones up to all; the others leave a core. Each thread has enough to do."""
    threads = cores.wanted(work_s, count)
    if work_s < cores.NARROW_S:
        assert threads == 1
    else:
        assert threads < count or work_s >= cores.HEAVY_S
        assert threads == 1 or work_s / threads >= cores.THREAD_S


@pytest.mark.parametrize(
    ("work_s", "count", "threads"),
    [(0.009, 8, 1), (0.015, 8, 3), (0.015, 2, 1), (0.019, 3, 2), (0.020, 3, 3), (1.0, 4, 4)],
)
def test_threads_by_work(work_s: float, count: int, threads: int) -> None:
    assert cores.wanted(work_s, count) == threads


def test_the_first_forward_takes_as_long_as_its_weights_are_large() -> None:
    assert cores.first_work_s(0) == 0
    assert cores.wanted(cores.first_work_s(17 << 20), 8) == 1
    assert cores.wanted(cores.first_work_s(440 << 20), 8) == 8


@given(work, st.integers(2, 64), st.floats(0.5, 0.66))
def test_the_threads_of_a_model_do_not_grow_without_end(
    work_s: float, count: int, parallel: float
) -> None:
    """Also for a model that threads speed up less than assumed."""
    threads = cores.wanted(work_s, count)
    for _ in range(10):
        forward_s = work_s * (1 - parallel + parallel / threads)
        threads = cores.wanted(forward_s * cores.speedup(threads), count)
    most = work_s * (1 - parallel) / (1 - cores.PARALLEL)
    assert threads <= max(1, most / cores.THREAD_S + 1e-9)  # of rounding


def test_two_threads_are_as_fast_as_measured() -> None:
    assert cores.speedup(1) == 1
    assert cores.speedup(2) == pytest.approx(1.49, abs=0.01)
