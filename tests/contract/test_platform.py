"""Group L, the platform's side of the contract: the container behind the local SageMaker, with boto3 only.

The tests use real processes, kill them, and read the containers' logs.
"""

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from botocore.exceptions import ClientError

from emulator.hosting.fleet_hosting import create_hosting
from emulator.limits import PlatformLimits
from emulator.platform import LocalSageMaker
from tests.archives import packed
from tests.artifacts import bert_classifier
from tests.contract.artifacts import Zoo
from tests.contract.waiting import until
from tests.emulator.containers.test_multi_model import lru_evictions

pytestmark = pytest.mark.differs(
    "mms", reason="not compared: the platform starts its own containers"
)

MODELS, CAPACITY = 6, 3
ROLE = "arn:aws:iam::123456789012:role/execution"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/many-models:1"
TEXT = json.dumps({"inputs": "a wonderful surprise"})
_numbers = itertools.count()


@dataclass
class Platform:
    """A local SageMaker with a prefix of models, and the files of its instances."""

    aws: LocalSageMaker
    root: Path
    nbytes: int

    def endpoint(
        self, *, cache: str = "Enabled", instances: int = 1, room: float = CAPACITY
    ) -> str:
        name = f"contract-{next(_numbers)}"
        sagemaker = self.aws.client("sagemaker")
        container = {
            "Image": IMAGE,
            "Mode": "MultiModel",
            "ModelDataUrl": "s3://bucket/p/",
            "MultiModelConfig": {"ModelCacheSetting": cache},
            "Environment": {
                "MME_DEVICE": "cpu",
                "MME_DEVICE_MEMORY": str(int((room + 0.5) * self.nbytes)),
            },
        }
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {
            "VariantName": "v",
            "ModelName": name,
            "InstanceType": "ml.m5.xlarge",
            "InitialInstanceCount": instances,
        }
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
        return name

    def invoke(self, endpoint: str, target: str, body: str = TEXT) -> Any:
        answer = self.aws.client("sagemaker-runtime").invoke_endpoint(
            EndpointName=endpoint,
            TargetModel=target,
            ContentType="application/json",
            Body=body,
        )
        return json.loads(answer["Body"].read())

    def ask(self, endpoint: str, number: int) -> None:
        (answer,) = self.invoke(endpoint, f"sub/{number}.tar.gz")
        assert answer["label"].startswith(f"{number}-")

    def requests(self) -> list[dict[str, Any]]:
        """The requests that the container of the newest instance has logged."""
        newest = max(self.root.glob("*/primary.log"), key=lambda file: file.stat().st_mtime)
        lines = newest.read_text().splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return [record for record in records if "method" in record]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, zoo: Zoo) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [zoo.dressed(classifier(folder, number)) for number in range(MODELS)]


def classifier(folder: Path, number: int) -> Path:
    labels = (f"{number}-yes", f"{number}-no")
    return bert_classifier(folder / str(number), labels=labels, seed=number)


def platform(
    root: Path, models: list[Path], nbytes: int, limits: PlatformLimits
) -> Iterator[Platform]:
    def hosting(url: str) -> Any:
        return create_hosting(s3=url, root=root, tick_every_s=None, limits=limits)

    with LocalSageMaker(hosting, environ={}) as aws:
        s3 = aws.client("s3")
        s3.create_bucket(Bucket="bucket")
        for number, directory in enumerate(models):
            s3.put_object(Bucket="bucket", Key=f"p/sub/{number}.tar.gz", Body=packed(directory))
        (models[0].parent / "broken").mkdir(exist_ok=True)
        broken = packed(models[0].parent / "broken")
        s3.put_object(Bucket="bucket", Key="p/broken.tar.gz", Body=broken)
        yield Platform(aws, root, nbytes)


@pytest.fixture(scope="module")
def nbytes(models: list[Path], zoo: Zoo) -> int:
    """The bytes of each model."""
    return max(zoo.held_nbytes(directory) for directory in models)


@pytest.fixture(scope="module")
def sage(
    models: list[Path], nbytes: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    yield from platform(tmp_path_factory.mktemp("instances"), models, nbytes, PlatformLimits())


@pytest.fixture(scope="module")
def endpoint(sage: Platform) -> Iterator[str]:
    """One instance, shared by the tests that accept what others have loaded there."""
    endpoint = sage.endpoint()
    yield endpoint
    sage.aws.client("sagemaker").delete_endpoint(EndpointName=endpoint)


@pytest.mark.case(94, 95, 96)
def test_more_models_than_memory(sage: Platform, endpoint: str) -> None:
    """Models load on their first request; the platform evicts the least recently used model. This test is the
    first: it reads everything that the container has logged."""
    numbers = random.Random(2).choices(range(MODELS), k=60)
    for number in numbers:
        sage.ask(endpoint, number)
    records = sage.requests()
    unloads = [r for r in records if r["method"] == "DELETE" and r["status"] == 200]
    assert len(unloads) == lru_evictions([str(number) for number in numbers], CAPACITY)
    assert any(r["method"] == "POST" and r["status"] == 507 for r in records)


@pytest.mark.case(98)
def test_gone_behind_the_platforms_back(sage: Platform, endpoint: str) -> None:
    sage.ask(endpoint, 0)
    (container,) = containers(sage.root)
    url = f"http://127.0.0.1:{container.environ()['SAGEMAKER_BIND_TO_PORT']}"
    models = httpx.get(f"{url}/models").json()["models"]
    assert models
    for model in models:
        assert httpx.delete(f"{url}/models/{model['modelName']}").status_code == 200
    sage.ask(endpoint, 0)


@pytest.mark.case(99)
def test_errors_become_the_runtimes_exceptions(sage: Platform, endpoint: str) -> None:
    with pytest.raises(ClientError) as failed:
        sage.invoke(endpoint, "broken.tar.gz")
    response = failed.value.response
    assert type(failed.value).__name__ == "ModelError"
    assert response["OriginalStatusCode"] == 500
    assert "not a model" in json.loads(response["OriginalMessage"])["message"]
    assert "/aws/sagemaker/Endpoints" in response["LogStreamArn"]
    with pytest.raises(ClientError) as failed:
        sage.invoke(endpoint, "sub/0.tar.gz", body="{")
    assert failed.value.response["OriginalStatusCode"] == 400
    with pytest.raises(ClientError, match="nowhere") as failed:
        sage.invoke(endpoint, "nowhere.tar.gz")
    assert failed.value.response["Error"]["Code"] == "ValidationError"
    with pytest.raises(ClientError) as failed:
        sage.aws.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"")
    assert failed.value.response["Error"]["Code"] == "ValidationError"


@pytest.mark.case(97)
def test_caching_disabled(sage: Platform) -> None:
    """Every request loads its model again, and succeeds."""
    endpoint = sage.endpoint(cache="Disabled")
    for number in (0, 1, 0, 0, 1):
        sage.ask(endpoint, number)

    def deleted() -> int:
        done = [record["method"] for record in sage.requests() if record["status"] == 200]
        return done.count("DELETE")

    until(lambda: deleted() == 5)  # the last one comes after its answer
    sage.aws.client("sagemaker").delete_endpoint(EndpointName=endpoint)
    assert deleted() == 5


@pytest.mark.case(99)
def test_a_load_that_takes_too_long_for_its_caller(
    models: list[Path], nbytes: int, tmp_path: Path
) -> None:
    """ModelNotReadyException, and the load continues: later requests succeed. This test must be the last,
    because the end of a second platform in the process deletes the first one's resources."""
    for slow in platform(tmp_path, models, nbytes, PlatformLimits(load_wait_s=0.01)):
        endpoint = slow.endpoint()
        runtime = slow.aws.client("sagemaker-runtime")
        refused = 0
        while True:
            try:
                slow.ask(endpoint, 0)
                break
            except runtime.exceptions.ModelNotReadyException:
                refused += 1
        assert refused > 0


def containers(root: Path) -> list[psutil.Process]:
    """The containers of the platform with these instances, without the suite's own server."""
    children = [child for child in psutil.Process().children() if "container" in child.cmdline()]
    return [child for child in children if child.environ()["MME_MODEL_ROOT"].startswith(str(root))]
