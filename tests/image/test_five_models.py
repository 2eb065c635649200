"""The built image on the local SageMaker: five models, two instances, one of which is killed."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from emulator.containers.docker_runner import DockerRunner
from emulator.hosting.fleet_hosting import create_hosting
from emulator.limits import PlatformLimits
from emulator.platform import LocalSageMaker
from examples.five_models import package
from tests.contract import image
from tests.contract.waiting import until

EXAMPLES = Path(package.__file__).parent
ROLE = "arn:aws:iam::123456789012:role/execution"
NAME = "five"
PARAMETERS = {"token-classification": {"parameters": {"aggregation_strategy": "simple"}}}
WORDS = ("label", "translation_text", "summary_text")
MODELS: list[dict[str, Any]] = json.loads((EXAMPLES / "requests.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def others() -> set[str]:
    """Containers that were running before the test."""
    return containers()


@pytest.fixture(scope="module")
def aws(others: set[str]) -> Iterator[LocalSageMaker]:
    """The platform with the endpoint in service. With `hot=1`, both instances load a model."""
    command = ("env", f"CONTAINERS_CONF={image.CONFIGURATION}", image.engine())
    runner = DockerRunner(command, options=("--network=host", "--read-only", "--tmpfs=/tmp"))
    with (
        tempfile.TemporaryDirectory() as root,
        LocalSageMaker(
            lambda url: create_hosting(
                s3=url,
                root=Path(root),
                tick_every_s=None,
                limits=PlatformLimits(hot=1),
                runner=runner,
            ),
            environ={},
        ) as platform,
    ):
        upload(platform, Path(root))
        deploy(platform.client("sagemaker"))
        yield platform
        platform.client("sagemaker").delete_endpoint(EndpointName=NAME)


def upload(platform: LocalSageMaker, scratch: Path) -> None:
    s3 = platform.client("s3")
    s3.create_bucket(Bucket="bucket")
    for model in MODELS:
        archive = scratch / f"{model['name']}.tar.gz"
        package.pack(EXAMPLES / "artifacts" / model["name"], archive)
        s3.upload_file(str(archive), "bucket", f"models/{archive.name}")


def deploy(sagemaker: Any) -> None:
    container = {
        "Image": image.IMAGE,
        "Mode": "MultiModel",
        "ModelDataUrl": "s3://bucket/models/",
        "Environment": {"MME_DEVICE": "cpu"},
    }
    sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {
        "VariantName": "v",
        "ModelName": NAME,
        "InstanceType": "ml.m5.xlarge",
        "InitialInstanceCount": 2,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME)


def answered(platform: LocalSageMaker) -> None:
    """Invoke every model, without retries, and check the answers."""
    once = Config(retries={"total_max_attempts": 1}, read_timeout=70)
    runtime = platform.client("sagemaker-runtime", config=once)
    for model in MODELS:
        answer = runtime.invoke_endpoint(
            EndpointName=NAME,
            TargetModel=f"{model['name']}.tar.gz",
            ContentType="application/json",
            Body=json.dumps(model["request"] | PARAMETERS.get(model["task"], {})),
        )
        assert said(json.loads(answer["Body"].read())) == model["answer"]


def said(answer: list[dict[str, Any]]) -> str:
    """The answer in the format of `requests.json`."""
    if "entity_group" in answer[0]:
        return ", ".join(f"{each['word']}/{each['entity_group']}" for each in answer)
    return str(next(answer[0][key] for key in WORDS if key in answer[0]))


def containers() -> set[str]:
    """Names of the running containers of the image."""
    names = image.ask("ps", "--filter", f"ancestor={image.IMAGE}", "--format", "{{.Names}}")
    return set(names.split())


def test_five_models_two_instances_one_killed(aws: LocalSageMaker, others: set[str]) -> None:
    both = containers() - others
    assert len(both) == 2
    answered(aws)
    image.ask("kill", min(both))
    answered(aws)
    until(lambda: min(both) not in containers())
    answered(aws)
