"""python image/sbom.py: prints what Python packages the image holds, as CycloneDX 1.6 in JSON.

They are those of requirements.lock with their hashes, but for the two that build the package and leave, and
PyTorch in the version of constraints.txt, whose file and CUDA libraries differ by flavor and index.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

REPOSITORY = Path(__file__).parents[1]
LOCKED = re.compile(r"^(\S+)==(\S+) --hash=sha256:(\w+)$", re.MULTILINE)
LEAVE = ("setuptools", "wheel")


def main() -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    name = project["name"]
    image = Component(
        name=name, version=project["version"], type=ComponentType.CONTAINER, bom_ref=name
    )
    bom = Bom(components=packages())
    bom.metadata.component = image
    bom.register_dependency(image, bom.components)
    print(JsonV1Dot6(bom).output_as_string(indent=2))


def packages() -> Iterator[Component]:
    for name, version, digest in LOCKED.findall(text("image/requirements.lock")):
        if name not in LEAVE:
            yield package(name, version, [HashType(alg=HashAlgorithm.SHA_256, content=digest)])
    yield package("torch", found(r"^torch==(.+)", "constraints.txt"), [])


def package(name: str, version: str, hashes: list[HashType]) -> Component:
    url = PackageURL("pypi", None, name, version)
    return Component(name=name, version=version, purl=url, bom_ref=str(url), hashes=hashes)


def found(pattern: str, file: str) -> str:
    match = re.search(pattern, text(file), re.MULTILINE)
    assert match, f"{file} has no {pattern}"
    return match[1]


def text(file: str) -> str:
    return (REPOSITORY / file).read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
