"""Functions that several scripts in this folder use."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

ApiObject = dict[str, Any]
# From AWS's documentation of InferenceAmiVersion: the AMI whose driver supports this CUDA version.
AMI_OF_CUDA = {
    "12.2": "al2-ami-sagemaker-inference-gpu-2-1",
    "12.4": "al2-ami-sagemaker-inference-gpu-3-1",
    "13.0": "al2023-ami-sagemaker-inference-gpu-4-1",
}
POLL_S, POLLS = 10, 360
ADVICE = {
    "NoCredentialsError": " | run `aws configure` or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NoRegionError": " | set AWS_DEFAULT_REGION",
}


class ScriptError(Exception):
    """An error of the user; its text is one line to print."""


@contextmanager
def errors_in_one_line(explained: Callable[[Exception], str] = str) -> Iterator[None]:
    """End the script with one line instead of a traceback on errors of the user or of a service."""
    try:
        yield
    except (ScriptError, OSError, BotoCoreError, ClientError, S3UploadFailedError) as error:
        advice = ADVICE.get(type(error).__name__, "")
        sys.exit(f"{Path(sys.argv[0]).name}: {explained(error)}{advice}")


def parser(description: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def pairs(texts: list[str]) -> dict[str, str]:
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise ScriptError(f"expected NAME=VALUE, got {text!r}")
    return {text.partition("=")[0]: text.partition("=")[2] for text in texts}


def with_slash(prefix: str) -> str:
    """Key = prefix + TargetModel: without the slash, the key of "a.tar.gz" would be "modelsa.tar.gz"."""
    if prefix.endswith("/"):
        return prefix
    print(f"using {prefix}/ (a prefix ends with a slash)", file=sys.stderr)
    return prefix + "/"


def multi_model_prefixes(endpoint: str) -> list[str]:
    """The S3 prefixes of the endpoint's multi-model containers, sorted."""
    client = boto3.client("sagemaker")
    config = client.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    variants = client.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    prefixes = set()
    for variant in variants:
        model = client.describe_model(ModelName=variant["ModelName"])
        containers = model.get("Containers") or [model["PrimaryContainer"]]
        prefixes |= {c["ModelDataUrl"] for c in containers if c.get("Mode") == "MultiModel"}
    return sorted(prefixes)


def upload(archive: Path, prefix: str, name: str, *, otherwise: str) -> None:
    """Upload without overwriting a key. `otherwise`: the option that selects another key, for the message."""
    bucket, _, start = prefix.removeprefix("s3://").partition("/")
    key = start + name
    s3 = boto3.client("s3")
    # Keys are listed in order, so that the exact key is the first of all keys with this prefix.
    found = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
    if [item["Key"] for item in found] == [key]:
        raise ScriptError(f"s3://{bucket}/{key} exists and is not overwritten: choose {otherwise}")
    total, sent = archive.stat().st_size, 0

    def progress(count: int) -> None:
        nonlocal sent
        sent += count
        print(f"\r{sent:,} of {total:,} bytes", end="", file=sys.stderr, flush=True)

    s3.upload_file(
        str(archive), bucket, key, Callback=progress, Config=TransferConfig(use_threads=False)
    )
    print(file=sys.stderr)
    print(f"uploaded s3://{bucket}/{key}")


def wait(client: Any, endpoint: str) -> ApiObject:
    """Prints the endpoint's status with each poll. Returns its description when it is in service."""
    began = time.monotonic()

    def progress(parsed: ApiObject, **_: Any) -> None:
        status = parsed.get("EndpointStatus", "unknown")
        print(f"{endpoint}: {status} after {time.monotonic() - began:.0f} s", flush=True)

    client.meta.events.register("after-call.sagemaker.DescribeEndpoint", progress)
    client.get_waiter("endpoint_in_service").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": POLL_S, "MaxAttempts": POLLS}
    )
    client.meta.events.unregister("after-call.sagemaker.DescribeEndpoint", progress)
    described: ApiObject = client.describe_endpoint(EndpointName=endpoint)
    return described
