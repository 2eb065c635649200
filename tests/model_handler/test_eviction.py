"""Eviction: enough goes, no more than needed, the idle before the leased, the oldest first."""

import hypothesis.strategies as st
from hypothesis import given

from model_handler.eviction import Candidate, choose

candidates = st.lists(
    st.builds(
        Candidate,
        model_id=st.integers(0, 10_000),
        nbytes=st.integers(1, 50),
        used=st.integers(0, 1_000),
        leased=st.booleans(),
    ),
    unique_by=(lambda one: one.model_id, lambda one: one.used),
    max_size=12,
)


@given(candidates, st.integers(0, 300))
def test_enough_and_not_one_too_many(those: list[Candidate], needed: int) -> None:
    sizes = {one.model_id: one.nbytes for one in those}
    choice = choose(those, needed)
    chosen = [*choice.leave, *choice.wait]
    freed = sum(sizes[model_id] for model_id in chosen)
    assert freed >= min(needed, sum(sizes.values()))
    if chosen:
        assert freed - sizes[chosen[-1]] < needed


@given(candidates, st.integers(0, 300))
def test_idle_before_leased_and_oldest_first(those: list[Candidate], needed: int) -> None:
    by_id = {one.model_id: one for one in those}
    choice = choose(those, needed)
    assert not any(by_id[model_id].leased for model_id in choice.leave)
    assert all(by_id[model_id].leased for model_id in choice.wait)
    if choice.wait:
        assert len(choice.leave) == sum(not one.leased for one in those)
    for chosen in (choice.leave, choice.wait):
        ages = [by_id[model_id].used for model_id in chosen]
        assert ages == sorted(ages)
