"""The lowest versions in pyproject.toml are those that `make test-lowest` tests."""

import re

import pytest

from tests.versions.declared import REPOSITORY, name, pins, project, requirements

DECLARED = requirements("formats")


def plain(name: str) -> str:
    """The name in the form in which package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("requirement", DECLARED)
def test_the_floor_is_what_is_run(requirement: str) -> None:
    floors = re.findall(r">=([\w.]+)", requirement)
    pinned = {plain(each): version for each, version in pins("constraints-lowest.txt").items()}
    assert [pinned[plain(name(requirement))]] == floors


def test_whatever_else_is_lowered_is_pinned_in_both_files_by_one_name() -> None:
    """The Makefile joins the files by name, so each name must be in constraints.txt too."""
    assert pins("constraints-lowest.txt").keys() <= pins("constraints.txt").keys()


def test_what_is_pinned_is_within_the_declared_bounds() -> None:
    """Upper bounds are above the pinned versions."""
    pinned = {plain(each): version for each, version in pins("constraints.txt").items()}
    for requirement in DECLARED:
        version = pinned[plain(name(requirement))]
        for bound in re.findall(r"<([\w.]+)", requirement):
            assert numbers(version) < numbers(bound), requirement


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def test_the_pythons_that_are_declared_are_those_that_run() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    others = re.search(r"^PYTHONS := (.+)$", makefile, re.MULTILINE)
    assert others
    prefix = "Programming Language :: Python :: "
    declared = [each for each in project()["classifiers"] if each.startswith(prefix)]
    pythons = [project()["requires-python"].removeprefix(">="), *others[1].split()]
    assert declared == [prefix + each for each in pythons]


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-lowest.txt"])
def test_the_table_of_tested_versions(file: str) -> None:
    (row,) = [
        line
        for line in (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8").splitlines()
        if line.startswith("|") and f"`{file}`: " in line
    ]
    pinned = pins(file)
    for library, named in (("torch", "PyTorch"), ("transformers", "transformers")):
        assert f"{named} {'.'.join(pinned[library].split('.')[:2])}" in row
