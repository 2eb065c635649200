"""One name, one meaning: class names across the product, and module names within a folder."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = (
    *("benchmarks", "container", "emulator", "examples"),
    *("image", "model_handler", "scripts"),
)
FILES = sorted(file for folder in FOLDERS for file in (REPOSITORY / folder).rglob("*.py"))


def classes(tree: ast.Module) -> Iterator[str]:
    """Nested classes included."""
    return (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def aliases(tree: ast.Module) -> Iterator[str]:
    """Names assigned at the top level: among them type aliases and type variables."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_a_class_name_is_defined_once() -> None:
    places = defaultdict(list)
    for file in FILES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for name in [*classes(tree), *{*aliases(tree)}]:
            places[name].append(str(file.relative_to(REPOSITORY)))
    defined = {name for file in FILES for name in classes(ast.parse(file.read_text("utf-8")))}
    assert len(defined) > 100
    assert {name: places[name] for name in sorted(defined) if len(places[name]) > 1} == {}


def modules(folder: Path) -> list[str]:
    """Packages and modules directly in the folder."""
    packages = {file.parent.name for file in folder.glob("*/__init__.py")}
    return sorted(packages | {file.stem for file in folder.glob("*.py")})


def alike(one: str, other: str) -> bool:
    """Whether the names differ by one letter or by a plural's ending."""
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) == len(longer):
        return sum(a != b for a, b in zip(shorter, longer, strict=True)) == 1
    without_one = {longer[:at] + longer[at + 1 :] for at in range(len(longer))}
    return shorter in without_one or longer in (f"{shorter}es", f"{shorter.removesuffix('y')}ies")


@pytest.mark.parametrize(
    ("one", "other", "result"),
    [
        *[("worker", "workers", True), ("isolate", "isolated", True), ("app", "api", True)],
        *[("box", "boxes", True), ("policy", "policies", True), ("lease", "residency", False)],
    ],
)
def test_what_is_alike(one: str, other: str, result: bool) -> None:
    assert alike(one, other) is result
    assert alike(other, one) is result


@pytest.mark.parametrize(
    "folder", sorted({file.parent for file in FILES}), ids=lambda f: str(f.relative_to(REPOSITORY))
)
def test_module_names_in_a_folder_are_not_alike(folder: Path) -> None:
    pairs = combinations(modules(folder), 2)
    assert [pair for pair in pairs if alike(*pair)] == []
