"""python scripts/teardown.py many-models --yes

Deletes an endpoint, its scaling targets, and the configurations and models that deploy.py and update.py
created for it. Resources that no longer exist are skipped, so the script can be run again. Model archives
in S3 are kept, unless --archives s3://my-bucket/models/ names their prefix.
"""

import argparse
import re
import sys
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError

import command_line

POLL_S, POLLS = 5, 360


def main() -> None:
    options = arguments()
    if not options.yes:
        confirm(options)
    with command_line.errors_in_one_line():
        client = boto3.client("sagemaker")
        configs, models = belongings(client, options.endpoint)
        remove_scaling(options.endpoint)
        delete_endpoint(client, options.endpoint)
        for config in sorted(configs):
            gone(client.delete_endpoint_config, EndpointConfigName=config)
        for model in sorted(models):
            gone(client.delete_model, ModelName=model)
        if options.archives:
            delete_archives(options.archives)


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("endpoint", help="name of the endpoint")
    parser.add_argument(
        "--archives", metavar="S3_PREFIX", help="also delete all objects below this prefix"
    )
    parser.add_argument("--yes", action="store_true", help="delete without confirmation")
    options = parser.parse_args()
    # Without a key after the bucket and a final slash, the prefix could match unintended objects.
    if options.archives and not re.fullmatch(r"s3://[^/]+/.+/", options.archives):
        parser.error("--archives takes s3://bucket/prefix/ with its slash, never a whole bucket")
    return options


def confirm(options: argparse.Namespace) -> None:
    what = f" and everything below {options.archives}" if options.archives else ""
    if input(f"Delete {options.endpoint}{what}? Type its name: ") != options.endpoint:
        sys.exit("teardown.py: nothing was deleted")


def belongings(client: Any, endpoint: str) -> tuple[set[str], set[str]]:
    """Names of the endpoint's configurations and models: those created by deploy.py or in use."""
    ours = re.compile(re.escape(endpoint) + r"-\d{8}-\d{6}(-.+)?")
    configs = names(client, "list_endpoint_configs", "EndpointConfigs", endpoint, ours)
    models = names(client, "list_models", "Models", endpoint, ours)
    used = gone(client.describe_endpoint, EndpointName=endpoint)
    if used:
        configs.add(used["EndpointConfigName"])
    for config in configs:
        described = gone(client.describe_endpoint_config, EndpointConfigName=config) or {}
        models |= {v["ModelName"] for v in described.get("ProductionVariants", [])}
    return configs, models


def names(client: Any, operation: str, key: str, endpoint: str, ours: re.Pattern[str]) -> set[str]:
    pages = client.get_paginator(operation).paginate(NameContains=endpoint)
    found = {item[f"{key[:-1]}Name"] for page in pages for item in page[key]}
    return {name for name in found if ours.fullmatch(name)}


def remove_scaling(endpoint: str) -> None:
    client = boto3.client("application-autoscaling")
    pages = client.get_paginator("describe_scalable_targets").paginate(ServiceNamespace="sagemaker")
    for target in [t for page in pages for t in page["ScalableTargets"]]:
        if target["ResourceId"].startswith(f"endpoint/{endpoint}/"):
            client.deregister_scalable_target(
                ServiceNamespace="sagemaker",
                ResourceId=target["ResourceId"],
                ScalableDimension=target["ScalableDimension"],
            )
            print(f"deregistered {target['ResourceId']}")


def delete_endpoint(client: Any, endpoint: str) -> None:
    if gone(client.delete_endpoint, EndpointName=endpoint) is None:
        return
    client.get_waiter("endpoint_deleted").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": POLL_S, "MaxAttempts": POLLS}
    )


def gone(call: Callable[..., Any], **request: str) -> Any:
    """The response of the call, or None if no resource of this name exists (any more)."""
    try:
        answer = call(**request)
    except ClientError as error:
        if "Could not find" not in str(error):
            raise
        return None
    if call.__name__.startswith("delete"):
        print(f"{call.__name__} {' '.join(request.values())}", flush=True)
    return answer


def delete_archives(prefix: str) -> None:
    bucket, _, start = prefix.removeprefix("s3://").partition("/")
    s3 = boto3.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        if keys:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
            print(f"deleted {len(keys)} objects below {prefix}")


if __name__ == "__main__":
    main()
