"""python scripts/list_models.py many-models

Lists the models of an endpoint, or of an S3 prefix such as s3://my-bucket/models/: the TargetModel name,
size and upload time of each. SageMaker does not report which models are in memory; its metric
LoadedModelCount reports their number.
"""

import argparse
from collections.abc import Iterator

import boto3

import command_line
from command_line import ScriptError


def main() -> None:
    where = arguments().where
    with command_line.errors_in_one_line():
        for prefix in [where] if where.startswith("s3://") else endpoint_prefixes(where):
            show(prefix if prefix.endswith("/") else prefix + "/")


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "where", metavar="ENDPOINT|S3_PREFIX", help="name of an endpoint, or s3://bucket/prefix/"
    )
    return parser.parse_args()


def endpoint_prefixes(endpoint: str) -> list[str]:
    prefixes = command_line.multi_model_prefixes(endpoint)
    if not prefixes:
        raise ScriptError(f"{endpoint} is not a multi-model endpoint")
    return prefixes


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


if __name__ == "__main__":
    main()
