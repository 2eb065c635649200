"""The notebooks run as they are, and are stored with what they print and draw."""

import os
from collections.abc import Iterator

import pytest

from tests.notebooks.execute import executed, names, read

SAID = {
    "01_five_models_local.ipynb": ("POSITIVE", "cold", "ModelCacheHit"),
    "02_deploy_to_sagemaker.ipynb": ("InService", "NEGATIVE", "ml.g5.xlarge", "deleted"),
    "03_ab_and_scaling.ipynb": ("challenger", "instances: 2"),
}


@pytest.fixture(autouse=True)
def no_platform_yet() -> Iterator[None]:
    """Each notebook starts its own, as it does for a reader."""
    ours = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    yield
    os.environ.update(ours)


def printed(notebook: object) -> str:
    return "".join(
        output.get("text", "")
        for cell in notebook.cells  # type: ignore[attr-defined]
        for output in cell.get("outputs", [])
    )


def plots(notebook: object) -> int:
    return sum(
        "image/png" in output.get("data", {})
        for cell in notebook.cells  # type: ignore[attr-defined]
        for output in cell.get("outputs", [])
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", names())
def test_a_notebook(name: str) -> None:
    """Freshly run it says what it is about, and so it is stored."""
    fresh, stored = executed(name), read(name)
    for each in (fresh, stored):
        text = printed(each)
        assert [word for word in SAID[name] if word not in text] == []
    assert plots(fresh) == plots(stored)
    assert plots(stored) >= (name != "02_deploy_to_sagemaker.ipynb")


def test_there_is_one_of_each() -> None:
    assert names() == sorted(SAID)
