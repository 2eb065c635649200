"""The image with multi-model-server, which `make test-image` builds too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.five_models import package
from tests.contract import image
from tests.contract.client import Client, label
from tests.contract.targets import answering, terminate
from tests.contract.waiting import until

BUILT = f"{image.IMAGE}-multi-model-server"
ARTIFACTS = Path(package.__file__).parent / "artifacts"


@pytest.fixture
def container(tmp_path: Path) -> Iterator[image.Container]:
    """A container with a read-only root, run by a user other than root."""
    container = image.launch_image({}, ARTIFACTS, tmp_path, ("--user", "1000:1000"), built=BUILT)
    answering(container)
    yield container
    container.stop()


def test_it_serves_behind_the_front_that_it_was_built_for(container: image.Container) -> None:
    """A model is loaded and invoked; Java runs in the container; SIGTERM ends it with status 0."""
    with Client(container.base_url) as client:
        until(lambda: client.ping().status_code == 200, within_s=30)
        assert client.load("one", ARTIFACTS / "sentiment").status_code == 200
        assert label(client.invoke("one", {"inputs": "I love this little camera."})) == "POSITIVE"
    assert "java" in image.ask("top", container.name, "comm").split()
    terminate(container)
    assert container.popen.wait(30) == 0


def test_the_ordinary_image_says_what_it_lacks(tmp_path: Path) -> None:
    front = {"MME_FRONT": "multi-model-server"}
    container = image.launch_image(front, ARTIFACTS, tmp_path)
    assert container.popen.wait(60) != 0
    assert "needs Java 11 or 17" in container.logs()
