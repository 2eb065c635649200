"""The local platform with another project's container: multi-model-server with sagemaker-inference."""

import io
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

PEER = os.environ.get("MMS_PYTHON", str(Path(__file__).parents[3] / ".venv-mms/bin/python"))
START = Path(__file__).with_name("start.py")
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/multi-model-server:1"
ROLE = "arn:aws:iam::123456789012:role/execution"
WORDS = ("apple", "pear", "plum")
ENDPOINT = "mms"
ACCESS = re.compile(r'ACCESS_LOG - \S+ "(\w+) (\S+) HTTP/1\.1" (\d+)')


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("platform")


@pytest.fixture(scope="session")
def options(root: Path) -> list[str]:
    assert shutil.which("java"), "Java is missing: apt-get install openjdk-17-jre-headless"
    return ["--root", str(root), "--command", f"{PEER} {START}"]


@pytest.fixture(scope="session")
def bucket(platform: str) -> str:
    for word in WORDS:
        key = f"{ENDPOINT}/fruit/{word}.tar.gz"
        boto3.client("s3").put_object(Bucket=platform, Key=key, Body=archive(word))
    return platform


@pytest.fixture(scope="module")
def runtime(bucket: str) -> Any:
    """A client of an endpoint whose container has memory for three models without requests."""
    sagemaker = boto3.client("sagemaker")
    container = {
        "Image": IMAGE,
        "Mode": "MultiModel",
        "ModelDataUrl": f"s3://{bucket}/{ENDPOINT}/",
        "Environment": {"PLACES": "3", "SAGEMAKER_MODEL_SERVER_WORKERS": "1"},
    }
    sagemaker.create_model(ModelName=ENDPOINT, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {
        "VariantName": "v",
        "ModelName": ENDPOINT,
        "InstanceType": "ml.m5.xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=ENDPOINT, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName=ENDPOINT)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=ENDPOINT)
    return boto3.client("sagemaker-runtime")


def archive(word: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo("word.txt")
        member.size = len(word)
        tar.addfile(member, io.BytesIO(word.encode()))
    return buffer.getvalue()


def ask(runtime: Any, word: str, body: str = "crumble") -> Any:
    return runtime.invoke_endpoint(
        EndpointName=ENDPOINT,
        TargetModel=f"fruit/{word}.tar.gz",
        ContentType="text/plain",
        Body=body.encode(),
    )


def accesses(root: Path) -> list[tuple[str, str, str]]:
    """Method, path and status of all requests to the container except pings."""
    (log,) = root.glob("*/primary.log")
    return [access for access in ACCESS.findall(log.read_text()) if access[0] != "GET"]


def processes(root: Path) -> list[str]:
    """Names of the processes that the container under this root has started, directly or not."""
    found = psutil.process_iter(["name", "environ"])
    return [
        process.info["name"]
        for process in found
        if (process.info["environ"] or {}).get("MME_MODEL_ROOT", "").startswith(str(root))
    ]


def test_each_target_is_answered_by_its_own_model(runtime: Any) -> None:
    for word in [*WORDS, *reversed(WORDS)]:
        answer = ask(runtime, word)
        assert answer["Body"].read() == f"{word}:crumble".encode()
        assert answer["ContentType"] == "text/plain"


def test_missing_targets_are_validation_errors(runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ClientError, match="Failed to download") as missing:
        ask(runtime, "fig")
    with pytest.raises(runtime.exceptions.ClientError, match="missing a target model") as unnamed:
        runtime.invoke_endpoint(EndpointName=ENDPOINT, Body=b"crumble")
    for refused in (missing, unnamed):
        assert refused.value.response["Error"]["Code"] == "ValidationError"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_507_unloads_the_least_recently_used_and_the_end_leaves_nothing(
    runtime: Any, root: Path
) -> None:
    """The 507 answers an invoke, since this server cannot repeat a load that it refused with 507."""
    for word in WORDS:
        ask(runtime, word)
    assert ask(runtime, "plum", "feast")["Body"].read() == b"plum:feast"
    assert "java" in processes(root)
    sagemaker = boto3.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=ENDPOINT)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=ENDPOINT)
    assert not processes(root)

    *_, apple, _, plum, first, unload, second = accesses(root)  # read after the end
    assert first == (plum[0], plum[1], "507")
    assert unload == ("DELETE", apple[1].removesuffix("/invoke"), "200")
    assert second == plum
