"""The table of evictions: the page has the stored results, and they agree with the engine's policy."""

import json

from benchmarks import eviction, eviction_table
from benchmarks.eviction_table import PAGE, most, of, stored
from model_handler.memory.eviction import POLICIES


def test_the_page_says_what_was_stored() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert eviction_table.page(text, stored()) == text


def test_what_was_stored_is_what_the_engine_decides() -> None:
    """For the first setting of each traffic. After a change of the policy run `python -m
    benchmarks.eviction`."""
    result = stored()
    settings = list(eviction.settings())
    assert {name: result[name] for name in eviction.PARAMETERS} == json.loads(
        json.dumps(eviction.PARAMETERS)
    )
    assert len(result["runs"]) == len(settings) * (len(eviction.COSTS) + 1)
    played = [run for setting in settings[:2] for run in eviction.runs_of(setting)]
    assert result["runs"][: len(played)] == played


def test_the_default_waits_and_promotes_less_than_lru() -> None:
    """In every setting; and on average the largest models do not miss more often."""
    runs = stored()["runs"]
    ours, lru = of(runs, "gdsf"), of(runs, "lru")
    assert eviction.COSTS["gdsf"] is POLICIES["gdsf"]
    assert most(ours, lru) < 1
    assert all(
        one["miss_ratio"] < other["miss_ratio"] for one, other in zip(ours, lru, strict=True)
    )
    assert sum(run["miss_ratio_of_largest"] for run in ours) < sum(
        run["miss_ratio_of_largest"] for run in lru
    )


def test_what_knows_the_future_misses_least() -> None:
    assert eviction.next_uses([1, 2, 1]) == [2, 6, 6]
    runs = stored()["runs"]
    for one, other in zip(of(runs, eviction.CLAIRVOYANT), of(runs, "lru"), strict=True):
        assert one["miss_ratio"] < other["miss_ratio"]
