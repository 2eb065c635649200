"""pytest's part of a run of mutants: what takes long comes last, because most changes fail an early test.

The durations are those of mutmut's first run, without any change. A failing example is not made smaller.
"""

import json
from pathlib import Path

import pytest
from hypothesis import Phase, settings

DURATIONS = Path("mutmut-stats.json")  # in the folder that mutmut runs the tests in

settings.register_profile(
    "mutation", database=None, deadline=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("mutation")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DURATIONS.is_file():
        durations = json.loads(DURATIONS.read_text())["duration_by_test"]
        items.sort(key=lambda item: durations.get(item.nodeid, 0.0))
