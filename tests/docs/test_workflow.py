"""The workflow on GitHub runs the commands of .ci/run."""

import re
from typing import Any

import yaml

from tests.docs.test_docs import REPOSITORY
from tests.versions.declared import project

WORKFLOW = REPOSITORY / ".github/workflows/ci.yml"


def job() -> dict[str, Any]:
    (only,) = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values()
    return dict(only)


def commands() -> list[str]:
    """The targets of .ci/run, in their order."""
    return re.findall(r"^make (\S+)$", (REPOSITORY / ".ci/run").read_text("utf-8"), re.MULTILINE)


def test_the_same_commands() -> None:
    assert job()["strategy"]["matrix"]["target"] == commands()
    runs = [step["run"] for step in job()["steps"] if "run" in step]
    assert runs == ["make ${{ matrix.target }}"]


def test_they_are_in_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    more = [each["target"] for each in job()["strategy"]["matrix"]["include"]]
    for target in [*commands(), *more]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_oldest_python_that_is_supported_is_among_those() -> None:
    oldest = project()["requires-python"].removeprefix(">=")
    assert job()["strategy"]["matrix"]["python"] == [oldest]


def test_it_may_read_and_nothing_else() -> None:
    assert yaml.safe_load(WORKFLOW.read_text("utf-8"))["permissions"] == {"contents": "read"}
    assert "permissions" not in job()


def test_foreign_code_is_named_by_its_commit() -> None:
    used = [step["uses"] for step in job()["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", each) for each in used)
