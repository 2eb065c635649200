"""Our own container, driven through boto3 by the whole platform."""

import io
import json
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.hosts import create_hosting
from emulator.platform import LocalSageMaker
from tests.artifacts import bert_classifier
from tests.emulator.hosting.test_loading import lru_evictions

MODELS = 6
CAPACITY = 3
REQUESTS = 60
ROLE = "arn:aws:iam::123456789012:role/execution"


def archive(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(directory, ".")
    return buffer.getvalue()


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[LocalSageMaker]:
    root = tmp_path / "root"
    with LocalSageMaker(
        lambda url: create_hosting(s3=url, root=root, tick_every_s=None), environ={}
    ) as platform:
        yield platform


def test_more_models_than_memory_through_boto3(aws: LocalSageMaker, tmp_path: Path) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="bucket")
    nbytes = 0
    for number in range(MODELS):
        labels = (f"{number}-yes", f"{number}-no")
        directory = bert_classifier(tmp_path / str(number), labels=labels, seed=number)
        nbytes = max(nbytes, sum(file.stat().st_size for file in directory.glob("*.safetensors")))
        s3.put_object(Bucket="bucket", Key=f"p/sub/{number}.tar.gz", Body=archive(directory))
    deploy(aws.client("sagemaker"), int((CAPACITY + 0.5) * nbytes))
    runtime = aws.client("sagemaker-runtime")
    numbers = random.Random(2).choices(range(MODELS), k=REQUESTS)
    for number in numbers:
        answer = runtime.invoke_endpoint(
            EndpointName="e",
            TargetModel=f"sub/{number}.tar.gz",
            ContentType="application/json",
            Body=json.dumps({"inputs": "a wonderful surprise"}),
        )
        assert json.loads(answer["Body"].read())[0]["label"].startswith(f"{number}-")
    (log,) = (tmp_path / "root").glob("*/primary.log")
    unloads = re.findall(r'"DELETE".*"status": ?200|"status": ?200.*"DELETE"', log.read_text())
    assert len(unloads) == lru_evictions([str(number) for number in numbers], CAPACITY)
    aws.client("sagemaker").delete_endpoint(EndpointName="e")
    with pytest.raises(runtime.exceptions.ClientError):
        aws.client("sagemaker").describe_endpoint(EndpointName="e")


def deploy(sagemaker: Any, budget_nbytes: int) -> None:
    sagemaker.create_model(
        ModelName="m",
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mme:latest",
            "Mode": "MultiModel",
            "ModelDataUrl": "s3://bucket/p/",
            "Environment": {"MME_DEVICE": "cpu", "MME_DEVICE_MEMORY": str(budget_nbytes)},
        },
    )
    variant = {"VariantName": "v", "ModelName": "m", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(
        EndpointConfigName="c", ProductionVariants=[{**variant, "InstanceType": "ml.m5.xlarge"}]
    )
    sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e")
