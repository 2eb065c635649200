"""The lock files, and image/sbom.sh, which lists their packages; tests/image compares it with the image."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.scripts.runs import REPOSITORY, tools

LOCKS = sorted((REPOSITORY / "image").glob("*.lock"))


def test_every_package_of_the_lock_with_its_hashes() -> None:
    done = subprocess.run(
        ["image/sbom.sh"], cwd=REPOSITORY, env=tools(), check=True, capture_output=True
    )
    document = json.loads(done.stdout)
    components = document["components"]
    named = {f"{each['name']}=={each['version']}": hashes(each) for each in components}
    torch = next(name for name in named if name.startswith("torch=="))
    assert named.pop(torch) == set()
    assert named == locked(REPOSITORY / "image/requirements.lock")
    assert not any("description" in each for each in components)
    assert document["metadata"]["component"]["type"] == "container"
    assert document["specVersion"] == "1.6"


def hashes(component: dict[str, list[dict[str, list[dict[str, str]]]]]) -> set[str]:
    references = component["externalReferences"]
    return {each["content"] for reference in references for each in reference.get("hashes", [])}


def locked(file: Path) -> dict[str, set[str]]:
    """The hashes of all packages in the lock file, by name and version."""
    lock = file.read_text("utf-8")
    blocks = re.findall(r"^(\S+==\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", lock, re.MULTILINE)
    assert len(blocks) == lock.count("==") > 0
    return {name: set(re.findall(r"sha256:(\w+)", text)) for name, text in blocks}


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: file.name)
def test_a_lock_has_the_pinned_versions(file: Path) -> None:
    pins = dict(line.lower().split("==") for line in constraints() if line[0] != "#")
    found = dict(name.split("==") for name in locked(file))
    assert found == found | {name: pins[name] for name in found.keys() & pins}


def constraints() -> list[str]:
    text = (REPOSITORY / "constraints.txt").read_text("utf-8").replace("_", "-")
    return text.splitlines()


def test_what_goes_with_a_flavor_is_not_locked() -> None:
    names = [name for file in LOCKS for name in locked(file)]
    assert len(names) > 50
    assert not [name for name in names if name.startswith(("torch==", "nvidia", "cuda", "triton"))]
