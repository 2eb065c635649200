"""image/sbom.py says what image/requirements.lock says; tests/image compares it with the image."""

import json
import subprocess
import sys

from tests.scripts.runs import REPOSITORY

BUILDS_AND_LEAVES = {"setuptools", "wheel"}


def test_every_wheel_of_the_lock_with_its_hash() -> None:
    done = subprocess.run(
        [sys.executable, "image/sbom.py"], cwd=REPOSITORY, check=True, capture_output=True
    )
    components = json.loads(done.stdout)["components"]
    named = {
        f"{each['name']}=={each['version']} --hash=sha256:{each['hashes'][0]['content']}"
        for each in components
        if each["name"] != "torch"
    }
    lines = (REPOSITORY / "image/requirements.lock").read_text("utf-8").splitlines()
    assert named == {
        line for line in lines if line[0] != "#" and line.split("==")[0] not in BUILDS_AND_LEAVES
    }
    assert len(components) == len(named) + 1
