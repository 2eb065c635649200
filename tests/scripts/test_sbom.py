"""image/sbom.sh says what image/requirements.lock says; tests/image compares it with the image."""

import json
import re
import subprocess

from tests.scripts.runs import REPOSITORY, tools


def test_every_package_of_the_lock_with_its_hashes() -> None:
    done = subprocess.run(
        ["image/sbom.sh"], cwd=REPOSITORY, env=tools(), check=True, capture_output=True
    )
    document = json.loads(done.stdout)
    components = document["components"]
    named = {f"{each['name']}=={each['version']}": hashes(each) for each in components}
    torch = next(name for name in named if name.startswith("torch=="))
    assert named.pop(torch) == set()
    assert named == locked()
    assert not any("description" in each for each in components)
    assert document["metadata"]["component"]["type"] == "container"
    assert document["specVersion"] == "1.6"


def hashes(component: dict[str, list[dict[str, list[dict[str, str]]]]]) -> set[str]:
    references = component["externalReferences"]
    return {each["content"] for reference in references for each in reference.get("hashes", [])}


def locked() -> dict[str, set[str]]:
    """Name and version, hashes: of all packages of the lock."""
    lock = (REPOSITORY / "image/requirements.lock").read_text("utf-8")
    blocks = re.findall(r"^(\S+==\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", lock, re.MULTILINE)
    assert len(blocks) == lock.count("==") > 50
    return {name: set(re.findall(r"sha256:(\w+)", text)) for name, text in blocks}
