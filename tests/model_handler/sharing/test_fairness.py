"""Device time is shared by weight, regardless of the cost of turns, and no runnable key starves."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_handler.sharing.fairness import Shares

costs = st.dictionaries(
    st.integers(0, 5), st.tuples(st.floats(0.001, 1), st.integers(1, 4)), min_size=2
)


@given(st.lists(st.integers(0, 5), min_size=1), st.integers(1, 30))
def test_turns_of_equal_cost_are_round_robin(keys: list[int], turns: int) -> None:
    shares: Shares[int] = Shares()
    for key in keys:
        shares.enter(key)
    taken = []
    for _ in range(turns):
        turn = shares.next(lambda _: True)
        assert turn is not None
        taken.append(turn)
        shares.charge(turn, 1.0)
    distinct = list(dict.fromkeys(keys))
    assert taken == list(itertools.islice(itertools.cycle(distinct), turns))


@given(costs, st.integers(20, 200), st.floats(0, 1))
def test_two_keys_that_can_always_run_differ_by_at_most_a_turn_of_each(
    costs: dict[int, tuple[float, int]], turns: int, expected: float
) -> None:
    """`expected`: the estimate that is charged first, as a fraction of the true cost."""
    shares: Shares[int] = Shares()
    for key in costs:
        shares.enter(key)
    had = dict.fromkeys(costs, 0.0)
    for _ in range(turns):
        turn = shares.next(lambda _: True)
        assert turn is not None
        cost, weight = costs[turn]
        shares.charge(turn, expected * cost, weight)
        shares.charge(turn, (1 - expected) * cost, weight)
        had[turn] += cost / weight
    for one, other in itertools.combinations(costs, 2):
        bound = sum(costs[key][0] / costs[key][1] for key in (one, other))
        assert abs(had[one] - had[other]) <= bound + 1e-9


@given(st.integers(1, 50))
def test_time_away_is_not_saved_up(turns: int) -> None:
    """A key that could not run for a while gets one early turn, and then every second turn."""
    shares: Shares[str] = Shares()
    shares.enter("away")
    shares.enter("busy")
    for _ in range(turns):
        assert shares.next(lambda key: key == "busy") == "busy"
        shares.charge("busy", 1.0)
    after = []
    for _ in range(6):
        after.append(key := shares.next(lambda _: True))
        assert key is not None
        shares.charge(key, 1.0)
    assert after in (["away", "busy"] * 3, ["away", "away", "busy", "away", "busy", "away"])


def test_leaving_after_each_turn_and_returning_gains_nothing() -> None:
    shares: Shares[str] = Shares()
    taken = {"stays": 0, "comes and goes": 0}
    for key in taken:
        shares.enter(key)
    for _ in range(100):
        turn = shares.next(lambda _: True)
        assert turn is not None
        taken[turn] += 1
        shares.charge(turn, 1.0)
        shares.leave("comes and goes")
        shares.enter("comes and goes")
    assert taken["stays"] == pytest.approx(50, abs=1)


def test_no_key_is_chosen_if_none_can_run() -> None:
    shares: Shares[int] = Shares()
    assert shares.next(lambda _: True) is None
    for key in (1, 2, 3):
        shares.enter(key)
    assert shares.next(lambda _: False) is None
    assert shares.next(lambda key: key != 1) == 2
    shares.forget(3)
    assert list(shares.inside) == [1, 2]
    assert 3 not in shares.inside


def test_charges_are_cleared_when_no_key_has_work() -> None:
    shares: Shares[str] = Shares()
    shares.enter("heavy")
    assert shares.next(lambda _: True) == "heavy"
    shares.charge("heavy", 1000.0)
    shares.leave("heavy")
    shares.enter("heavy")
    shares.enter("new")
    order = [shares.next(lambda _: True)]
    shares.charge("heavy", 1.0)
    assert [*order, shares.next(lambda _: True)] == ["heavy", "new"]


def test_a_late_correction_counts_from_the_level_at_which_all_start_again() -> None:
    shares: Shares[str] = Shares()
    for key, seconds in (("heavy", 1000.0), ("light", 1.0)):
        shares.enter(key)
        assert shares.next(lambda each, key=key: each == key) == key  # type: ignore[misc]
        shares.charge(key, seconds)
    for key in ("heavy", "light"):
        shares.leave(key)
    shares.charge("light", 5.0)
    for key in ("light", "heavy"):
        shares.enter(key)
    taken = []
    for _ in range(6):
        taken.append(turn := shares.next(lambda _: True))
        assert turn is not None
        shares.charge(turn, 1.0)
    assert taken == ["heavy"] * 5 + ["light"]


def test_a_key_that_had_nothing_yet_comes_before_one_that_had_little() -> None:
    shares: Shares[str] = Shares()
    shares.enter("had little")
    shares.charge("had little", 0.5)
    shares.enter("new")
    assert shares.next(lambda _: True) == "new"


def test_a_key_that_was_forgotten_starts_like_a_new_one() -> None:
    shares: Shares[str] = Shares()
    for key in ("heavy", "stays"):
        shares.enter(key)
        shares.charge(key, 100.0 if key == "heavy" else 1.0)
    shares.forget("heavy")
    shares.enter("heavy")
    assert shares.next(lambda _: True) == "heavy"
