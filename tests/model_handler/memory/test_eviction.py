"""Eviction: enough bytes, no unnecessary model, idle before leased, the lowest priority first."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from model_handler.memory.eviction import (
    FIXED_NBYTES,
    HALF_LIFE,
    POLICIES,
    Candidate,
    Now,
    Standing,
    choose,
    use,
)

candidates = st.lists(
    st.builds(
        Candidate,
        key=st.integers(0, 10_000),
        nbytes=st.integers(0, 50),
        priority=st.sampled_from([0.0, 0.5, 1.0, 7.0]),
        used=st.integers(0, 1_000),
        leased=st.booleans(),
    ),
    unique_by=(lambda one: one.key, lambda one: one.used),
    max_size=12,
)
GDSF = POLICIES["gdsf"]


def order(candidate: Candidate) -> tuple[bool, float, int]:
    return candidate.leased, candidate.priority, candidate.used


@given(candidates, st.integers(0, 300))
def test_enough_models_are_chosen_or_all_and_none_unnecessarily(
    those: list[Candidate], needed: int
) -> None:
    sizes = {one.key: one.nbytes for one in those}
    choice = choose(those, needed)
    chosen = [*choice.leave, *choice.wait]
    freed = sum(sizes[model_id] for model_id in chosen)
    assert freed >= min(needed, sum(sizes.values()))
    if freed >= needed:
        assert all(freed - sizes[model_id] < needed for model_id in chosen)
    else:
        assert set(chosen) == {model_id for model_id, nbytes in sizes.items() if nbytes}


@given(candidates, st.integers(0, 300))
def test_leased_models_are_chosen_only_if_idle_ones_are_not_enough(
    those: list[Candidate], needed: int
) -> None:
    by_id = {one.key: one for one in those}
    choice = choose(those, needed)
    assert not any(by_id[model_id].leased for model_id in choice.leave)
    assert all(by_id[model_id].leased for model_id in choice.wait)
    if choice.wait:
        assert sum(one.nbytes for one in those if not one.leased) < needed


@given(candidates, st.integers(0, 300))
def test_the_lowest_priority_is_chosen_first(those: list[Candidate], needed: int) -> None:
    """All models below the highest chosen priority together would not have freed enough."""
    by_id = {one.key: one for one in those}
    choice = choose(those, needed)
    chosen = [by_id[model_id] for model_id in (*choice.leave, *choice.wait)]
    assert chosen == sorted(chosen, key=order)
    if chosen:
        before = [one for one in those if order(one) < order(chosen[-1])]
        assert sum(one.nbytes for one in before) < needed
        leaving = [one.priority for one in chosen if not one.leased]
        assert choice.clock == max(leaving, default=0.0)


@given(candidates, st.integers(0, 300))
def test_the_order_of_candidates_does_not_matter(those: list[Candidate], needed: int) -> None:
    assert choose(those, needed) == choose(reversed(those), needed)


histories = st.lists(st.integers(0, 7), min_size=1, max_size=60)


def played(history: list[int], sizes: list[int], budget: int, policy: str) -> list[list[int]]:
    """The models evicted at each request, from a device of `budget` bytes."""
    standings = [Standing()] * len(sizes)
    here: set[int] = set()
    clock, left = 0.0, []
    for number, asked in enumerate(history, start=1):
        gone: tuple[Any, ...] = ()
        if asked not in here:
            needed = sum(sizes[one] for one in here) + sizes[asked] - budget
            choice = choose([candidate(one, sizes, standings) for one in here], needed)
            gone, clock = choice.leave, max(clock, choice.clock)
            here = here - set(gone) | {asked}
        now = Now(number, clock, len(sizes))
        standings[asked] = use(standings[asked], sizes[asked], now, POLICIES[policy])
        left.append(sorted(gone))
    return left


def candidate(model_id: int, sizes: list[int], standings: list[Standing]) -> Candidate:
    standing = standings[model_id]
    return Candidate(model_id, sizes[model_id], standing.priority, standing.used, leased=False)


def least_recently_used(history: list[int], room: int) -> list[list[int]]:
    order: list[int] = []
    left = []
    for asked in history:
        leaves = order[0] if asked not in order and len(order) == room else None
        order = [one for one in order if one not in (asked, leaves)] + [asked]
        left.append([] if leaves is None else [leaves])
    return left


@given(histories, st.integers(1, 7))
def test_lru_evicts_the_least_recently_used_model(history: list[int], room: int) -> None:
    assert played(history, [10] * 8, 10 * room, "lru") == least_recently_used(history, room)


@given(st.integers(2, 8), st.integers(1, 5), st.permutations(range(8)))
def test_gdsf_equals_lru_for_equal_sizes_and_frequencies(
    count: int, rounds: int, models: list[int]
) -> None:
    """The models are requested in turn, so that all are used equally often."""
    history = models[:count] * rounds
    for room in range(1, count):
        assert played(history, [10] * 8, 10 * room, "gdsf") == least_recently_used(history, room)


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(1, 10**6), st.integers(1, 1000))
def test_gdsf_prefers_small_and_frequently_used_models(
    small: int, large: int, uses: int, models: int
) -> None:
    assume(small < large)
    now = Now(uses, 0.0, models)
    once = use(Standing(), large, now, GDSF)
    assert use(Standing(), small, now, GDSF).priority > once.priority
    assert use(once, large, Now(uses + 1, 0.0, models), GDSF).priority > once.priority


@given(st.integers(0, 10**12), st.floats(0, 10**12), st.floats(0, 10**12), st.integers(1, 20))
def test_the_clock_raises_the_priority_of_later_uses(
    nbytes: int, clock: float, step: float, uses: int
) -> None:
    """A use always adds to the clock, and equal uses at a later clock have no lower priority."""
    early = later = Standing()
    for number in range(uses):
        early = use(early, nbytes, Now(number + 1, clock, 8), GDSF)
        later = use(later, nbytes, Now(number + 1, clock + step, 8), GDSF)
        assert clock < early.priority <= later.priority
    assert early.frequency == later.frequency <= uses


@given(st.integers(10**6, 10**11), st.integers(10**6, 10**11), st.integers(1, 1000))
def test_size_alone_never_outweighs_many_uses(one: int, other: int, models: int) -> None:
    """The cost includes the bytes to copy, so that the ratio of two priorities is bounded."""
    now = Now(1, 0.0, models)
    small, large = sorted((one, other))
    ratio = use(Standing(), small, now, GDSF).priority / use(Standing(), large, now, GDSF).priority
    assert 1 <= ratio <= 1 + FIXED_NBYTES / small


def test_a_use_counts_half_after_the_half_life() -> None:
    models = 50
    once = use(Standing(), 1, Now(1, 0.0, models), GDSF)
    later = use(once, 1, Now(1 + HALF_LIFE * models, 0.0, models), GDSF)
    assert later.frequency == pytest.approx(1.5)


@given(histories)
def test_a_model_that_is_no_longer_used_is_evicted(history: list[int]) -> None:
    """The clock exceeds its priority in the end, however often it was used before."""
    left = played([0] * 20 + history + [8, 9] * 100, [10] * 10, 20, "gdsf")
    assert any(0 in gone for gone in left)
