"""python scripts/list_models.py many-models

Lists the models of an endpoint, or of an S3 prefix such as s3://my-bucket/models/: the TargetModel name,
size and upload time of each. SageMaker does not report which models are in memory; its metric
LoadedModelCount reports their number.
"""

import argparse
import sys
from collections.abc import Iterator

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def main() -> None:
    where = arguments().where
    try:
        for prefix in [where] if where.startswith("s3://") else endpoint_prefixes(where):
            show(prefix if prefix.endswith("/") else prefix + "/")
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"list_models.py: {error}{ADVICE.get(type(error).__name__, '')}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "where", metavar="ENDPOINT|S3_PREFIX", help="name of an endpoint, or s3://bucket/prefix/"
    )
    return parser.parse_args()


def endpoint_prefixes(endpoint: str) -> list[str]:
    client = boto3.client("sagemaker")
    config = client.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    variants = client.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    prefixes = set()
    for variant in variants:
        model = client.describe_model(ModelName=variant["ModelName"])
        containers = model.get("Containers") or [model["PrimaryContainer"]]
        prefixes |= {c["ModelDataUrl"] for c in containers if c.get("Mode") == "MultiModel"}
    if not prefixes:
        sys.exit(f"list_models.py: {endpoint} is not a multi-model endpoint")
    return sorted(prefixes)


def show(prefix: str) -> None:
    rows = list(archives(prefix))
    print(f"{prefix} ({len(rows)} models)")
    for target, nbytes, modified in rows:
        print(f"{target:<40} {nbytes:>15,} bytes  {modified}")


def archives(prefix: str) -> Iterator[tuple[str, int, str]]:
    bucket, _, start = prefix.removeprefix("s3://").partition("/")
    pages = boto3.client("s3").get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=bucket, Prefix=start):
        for item in page.get("Contents", []):
            if item["Key"].endswith(".tar.gz"):
                uploaded = f"{item['LastModified']:%Y-%m-%d %H:%M:%S}"
                yield item["Key"].removeprefix(start), item["Size"], uploaded


ADVICE = {
    "NoCredentialsError": " | run `aws configure` or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NoRegionError": " | set AWS_DEFAULT_REGION",
}


if __name__ == "__main__":
    main()
