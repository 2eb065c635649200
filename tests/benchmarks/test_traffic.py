"""Properties of the random traffic."""

import itertools
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import traffic

COUNTS = st.integers(1, 200)
SKEWS = st.floats(0, 2)


@given(COUNTS, SKEWS)
def test_zipf_shares_add_up_and_fall(count: int, skew: float) -> None:
    shares = traffic.zipf(count, skew)
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(shares[-1] * count**skew)


@given(st.floats(1, 500), st.floats(0.1, 5), st.integers())
def test_arrivals_are_ordered_within_the_window_and_the_seed_s(
    rate: float, seconds: float, seed: int
) -> None:
    arrivals = traffic.poisson(rate, seconds, seed)
    assert arrivals == sorted(arrivals)
    assert all(0 < at < seconds for at in arrivals)
    assert arrivals == traffic.poisson(rate, seconds, seed)


def test_arrivals_come_at_their_rate_and_without_memory() -> None:
    arrivals = traffic.poisson(100, 200, seed=1)
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    assert len(arrivals) == pytest.approx(20_000, rel=0.03)
    # an exponential distribution deviates by as much as it is on average
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=30), st.integers())
def test_draws_stay_within_the_weights(weights: list[float], seed: int) -> None:
    assert set(traffic.draws(weights, seed, 50)) <= set(range(len(weights)))


def test_draws_follow_the_weights() -> None:
    drawn = traffic.draws([1, 2, 7], seed=3, count=20_000)
    shares = [drawn.count(index) / len(drawn) for index in range(3)]
    assert shares == pytest.approx([0.1, 0.2, 0.7], abs=0.01)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_sample_that_enough_do_not_exceed(
    samples: list[float], share: float
) -> None:
    ordered = sorted(samples)
    found = traffic.percentile(ordered, share)
    below = sum(sample < found for sample in ordered)
    within = sum(sample <= found for sample in ordered)
    assert within >= share * len(ordered) - 1e-6
    assert below < share * len(ordered) + 1e-6


def test_texts_have_as_many_words_as_asked() -> None:
    assert {len(text.split()) for text in traffic.texts(30, 20, seed=0)} == {30}
    assert len(set(traffic.texts(30, 20, seed=0))) == 20


def test_ragged_texts_are_twenty_words_in_the_middle() -> None:
    lengths = [len(text.split()) for text in traffic.ragged(500, seed=0)]
    assert statistics.median(lengths) == pytest.approx(20, abs=3)
    assert max(lengths) <= 126
