"""custom_code: each form of code answers a request that is sent with boto3."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from emulator.hosting.fleet_hosting import create_hosting
from emulator.platform import LocalSageMaker
from examples.custom_code.moons.train import FOLDER, Network, accuracy
from examples.custom_code.package import NAMES, package

ROLE = "arn:aws:iam::123456789012:role/SageMakerExecutionRole"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/many-models:latest"


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("custom_code")
    with LocalSageMaker(
        lambda url: create_hosting(s3=url, root=folder / "root", tick_every_s=None), environ={}
    ) as aws:
        s3, sagemaker = aws.client("s3"), aws.client("sagemaker")
        s3.create_bucket(Bucket="code")
        for name in NAMES:
            package(name, folder / f"{name}.tar.gz")
            s3.upload_file(str(folder / f"{name}.tar.gz"), "code", f"models/{name}.tar.gz")
        container = {
            "Image": IMAGE,
            "Mode": "MultiModel",
            "ModelDataUrl": "s3://code/models/",
            "Environment": {"MME_DEVICE": "cpu"},
        }
        sagemaker.create_model(ModelName="c", ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {
            "VariantName": "v",
            "ModelName": "c",
            "InstanceType": "ml.m5.xlarge",
            "InitialInstanceCount": 1,
        }
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="c", EndpointConfigName="c")
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="c")
        yield aws.client("sagemaker-runtime")


def invoke(runtime: Any, model: str, body: str, content_type: str) -> Any:
    return runtime.invoke_endpoint(
        EndpointName="c", TargetModel=f"{model}.tar.gz", ContentType=content_type, Body=body
    )


def test_inference_py(runtime: Any) -> None:
    """JSON and CSV: functions that the code does not define have defaults."""
    for body, kind in (
        ("[[-0.9, 0.4], [1.9, 0.1]]", "application/json"),
        ("-0.9,0.4\n1.9,0.1", "text/csv"),
    ):
        answer = json.loads(invoke(runtime, "moons", body, kind)["Body"].read())
        assert [point["moon"] for point in answer] == ["upper", "lower"]


def test_handler_py(runtime: Any) -> None:
    body = json.dumps({"inputs": ["I love this little camera.", "What a waste of an evening."]})
    answer = json.loads(invoke(runtime, "stars", body, "application/json")["Body"].read())
    assert [each["stars"] for each in answer] == [5, 1]


def test_transform_fn(runtime: Any) -> None:
    text = "Write to ann.b@example.org or ring +49 30 1234567."
    answer = invoke(runtime, "redact", text, "text/plain")
    assert answer["Body"].read() == b"Write to <email> or ring <phone>."
    assert answer["ContentType"] == "text/plain"
    assert answer["CustomAttributes"] == "redacted=2"


def test_the_stated_accuracy() -> None:
    network = Network()
    network.load_state_dict(load_file(Path(FOLDER) / "weights.safetensors"))
    stated = f"{accuracy(network):.3f}"
    assert stated in (FOLDER.parent / "README.md").read_text()
