"""The real scheduler in virtual time, and the tables about it."""

import pytest

from benchmarks.simulation import tables
from benchmarks.simulation.__main__ import settings
from benchmarks.simulation.costs import Costs, FrontCosts, LinearCost, ModelCosts, read
from benchmarks.simulation.experiment import Figures, SimulatedSetting, simulate
from benchmarks.simulation.measuring.front_costs import FrontWindow
from benchmarks.simulation.measuring.front_costs import fitted as fitted_front
from benchmarks.simulation.measuring.worker_costs import TimedBatch, fitted

HOST = LinearCost(0.0001, 0.00005, 0.0)
TINY = ModelCosts(
    HOST, (LinearCost(0.001, 0, 0.00002), LinearCost(0.001, 0, 0.00002)), 0.5, 0.2, 0.05, 9, 1
)
COSTS = Costs(FrontCosts(0.00005, 0.0001, 0.00005), 0.0, {"tiny": TINY})


def figures(cores: int, workers: int, clients: int) -> Figures:
    setting = SimulatedSetting(
        cores=cores, workers=workers, clients=clients, models=20, warm_up_s=1.0, seconds=1.0
    )
    return simulate(setting, COSTS)


def test_a_second_worker_uses_the_second_core() -> None:
    one, two = (figures(cores=2, workers=workers, clients=32) for workers in (1, 2))
    assert one.cores_busy < 1.5
    assert two.cores_busy > 1.9
    assert 1.3 < two.per_s / one.per_s < 2


def test_requests_in_flight_follow_littles_law() -> None:
    """Clients = requests per second × mean latency, which lies near the median with one model."""
    found = simulate(SimulatedSetting(cores=4, workers=1, clients=8, models=1), COSTS)
    assert found.per_s * found.p50_ms / 1e3 == pytest.approx(8, rel=0.1)
    assert found.batch == pytest.approx(8, rel=0.1)


def test_the_front_becomes_the_limit() -> None:
    found = figures(cores=36, workers=32, clients=256)
    assert found.front_busy > 0.95
    assert found.cores_busy < 30


def test_costs_are_fitted() -> None:
    rows = [(rows, tokens) for rows in (1, 2, 8) for tokens in (10, 50)]
    samples = [TimedBatch(rows, tokens, 0.5 + 0.25 * tokens) for rows, tokens in rows]
    law = fitted(samples)
    assert [law.fixed_s, law.row_s, law.token_s] == pytest.approx([0.5, 0, 0.25], abs=1e-9)
    assert law.error == pytest.approx(0, abs=1e-9)


def test_the_front_s_costs_are_fitted() -> None:
    saturated = [FrontWindow(50e-6 + 100e-6 / batch, 0.0, batch) for batch in (1.0, 4.0)]
    light = [FrontWindow(50e-6 + 50e-6 + 80e-6 * 1.5, 0.0, 2.0)]
    found = fitted_front(saturated, light)
    assert found.seconds() == pytest.approx((80e-6, 100e-6, 50e-6))


def test_the_page_says_what_was_simulated() -> None:
    text = tables.PAGE.read_text(encoding="utf-8")
    result = tables.stored()
    assert tables.page(text, result) == text
    assert result.costs == read()
    assert [(run.traffic, run.setting) for run in result.runs] == list(dict.fromkeys(settings()))


def test_a_stored_run_can_be_repeated() -> None:
    """The scheduler's CPU time is taken while it runs, so that figures are not exactly equal."""
    result = tables.stored()
    run = next(run for run in result.runs if run.setting.cores == 4)
    again = simulate(run.setting, result.costs)
    assert again.per_s == pytest.approx(run.figures.per_s, rel=0.15)
