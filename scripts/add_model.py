"""python scripts/add_model.py sentiment.tar.gz s3://my-bucket/models/

Uploads a model archive to the S3 prefix of a running multi-model endpoint. The second argument is the
prefix or the endpoint's name. The model can be invoked immediately, as TargetModel, without a new
deployment. An existing key is never overwritten, since instances may keep the old model in memory or on
disk: choose a new name with --name, such as sentiment-v2.tar.gz.
"""

import argparse
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError


class Mistake(Exception):
    """An error of the user; its text is one line to print."""


def main() -> None:
    options = arguments()
    try:
        check(options.archive)
        name = options.name or options.archive.name
        upload(options.archive, prefix(options.where), name)
    except (Mistake, BotoCoreError, ClientError, S3UploadFailedError) as error:
        sys.exit(f"add_model.py: {error}{ADVICE.get(type(error).__name__, '')}")
    print(f"TargetModel={name}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="the .tar.gz file to upload")
    parser.add_argument(
        "where",
        metavar="S3_PREFIX|ENDPOINT",
        help="destination: s3://bucket/prefix/ or an endpoint",
    )
    parser.add_argument(
        "--name",
        help="key below the prefix, e.g. team/ner-v2.tar.gz (default: the archive's file name)",
    )
    return parser.parse_args()


def check(archive: Path) -> None:
    """Raises Mistake if SageMaker could not extract the archive; package_model.py checks more."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            members = tar.getmembers()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise Mistake(f"{archive} is not a readable tar.gz: {error}") from error
    for member in members:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
            raise Mistake(f"{archive}: {member.name} is not a plain file below the archive's root")
    depth = min((len(PurePosixPath(m.name).parts) for m in members if is_config(m)), default=0)
    if not 1 <= depth <= 2:
        raise Mistake(f"{archive} has no config.json at its root: pack it with package_model.py")


def is_config(member: tarfile.TarInfo) -> bool:
    return PurePosixPath(member.name).name == "config.json"


def prefix(where: str) -> str:
    """The given S3 prefix, or the prefix of the endpoint's multi-model containers."""
    if not where.startswith("s3://"):
        return endpoint_prefix(where)
    if where.endswith("/"):
        return where
    print(f"using {where}/ (a prefix ends with a slash)", file=sys.stderr)
    return where + "/"


def endpoint_prefix(endpoint: str) -> str:
    client = boto3.client("sagemaker")
    config = client.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    variants = client.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    prefixes = set()
    for variant in variants:
        model = client.describe_model(ModelName=variant["ModelName"])
        containers = model.get("Containers") or [model["PrimaryContainer"]]
        prefixes |= {c["ModelDataUrl"] for c in containers if c.get("Mode") == "MultiModel"}
    if len(prefixes) != 1:
        found = ", ".join(sorted(prefixes)) or "none"
        raise Mistake(f"{endpoint} should have one multi-model prefix, give one of: {found}")
    return str(prefixes.pop())


def upload(archive: Path, prefix: str, name: str) -> None:
    bucket, _, start = prefix.removeprefix("s3://").partition("/")
    key = start + name
    s3 = boto3.client("s3")
    if exists(s3, bucket, key):
        raise Mistake(
            f"s3://{bucket}/{key} exists and is not overwritten: choose a new name with --name"
        )
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


def exists(s3: Any, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] == "404":
            return False
        raise
    return True


ADVICE = {
    "NoCredentialsError": " | run `aws configure` or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NoRegionError": " | set AWS_DEFAULT_REGION",
}


if __name__ == "__main__":
    main()
