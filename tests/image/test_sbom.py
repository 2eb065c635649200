"""The packages listed by `make sbom` are those installed in the image."""

import json
import re
import subprocess

from tests.contract import image
from tests.scripts.runs import REPOSITORY, tools

INSTALLED = (
    "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
)


def test_it_names_what_the_image_holds() -> None:
    done = subprocess.run(
        ["image/sbom.sh"], cwd=REPOSITORY, env=tools(), check=True, capture_output=True
    )
    document = json.loads(done.stdout)
    told = [document["metadata"]["component"], *document["components"]]
    run = ("run", "--rm", "--network", "host", "--entrypoint", "python3", image.IMAGE)
    assert {pin(f"{each['name']}=={each['version']}") for each in told} == {
        pin(each) for each in image.ask(*run, "-c", INSTALLED).split()
    }


def pin(text: str) -> str:
    """Name and version, with a normalised name and without a local version such as +cpu."""
    name, _, version = text.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version.partition('+')[0]}"
