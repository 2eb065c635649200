"""The built image installs the requirements.txt of an artifact."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import image
from tests.contract.client import Client
from tests.contract.targets import answering
from tests.model_handler.scripted.test_requirements import greeting


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Of a container with a read-only root and one artifact, which needs a package that the image lacks."""
    greeting(tmp_path / "models" / "greeting")
    settings = {"MME_INSTALL_REQUIREMENTS": "true"}
    container = image.launch_image(settings, tmp_path / "models", tmp_path)
    answering(container)
    with Client(container.base_url) as client:
        yield client
    container.stop()


def test_a_package_of_the_artifact_is_installed(client: Client, tmp_path: Path) -> None:
    loaded = client.load("greeting", tmp_path / "models" / "greeting")
    assert loaded.status_code == 200, loaded.text
    assert client.invoke("greeting", {}).json() == "from a wheel"
