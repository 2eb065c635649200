"""python scripts/update.py many-models --weight AllTraffic=1 --count AllTraffic=2

Shifts traffic between variants, or changes their instances, in place. With --image, --env, --cache or
--instance-type: makes new models and a new configuration from the present ones and replaces the
instances blue/green: the old ones serve until the new ones do, weights and counts stay. The old
configuration is kept for going back (--config NAME); teardown.py removes all of them.
"""

import argparse
import re
import sys
import time
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

Request = dict[str, Any]
GPU_FAMILY = re.compile(r"ml\.(p|g)\d")
# From the documentation of InferenceAmiVersion: the newest CUDA that each image's driver runs.
AMI_OF_CUDA = {
    "12.2": "al2-ami-sagemaker-inference-gpu-2-1",
    "12.4": "al2-ami-sagemaker-inference-gpu-3-1",
    "13.0": "al2023-ami-sagemaker-inference-gpu-4-1",
}
# What describe_* answers and create_* takes.
MODEL_MEMBERS = (
    "PrimaryContainer", "Containers", "ExecutionRoleArn", "VpcConfig",
    "EnableNetworkIsolation", "InferenceExecutionConfig",
)  # fmt: skip
CONFIG_MEMBERS = ("KmsKeyId",)
POLL_S, POLLS = 10, 360


class Mistake(Exception):
    """Its text is one line for the user."""


def main() -> None:
    options = arguments()
    try:
        client = boto3.client("sagemaker")
        if options.weight or options.count:
            shift(client, options)
            described = wait(client, options.endpoint)
        else:
            config = options.config or new_config(client, options)
            replace_instances(client, options.endpoint, config)
            described = wait(client, options.endpoint)
            check_config(described, config)
        show(described)
    except (Mistake, BotoCoreError, ClientError) as error:
        sys.exit(f"update.py: {explained(error)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("endpoint")
    parser.add_argument("--weight", action="append", default=[], metavar="VARIANT=WEIGHT")
    parser.add_argument("--count", action="append", default=[], metavar="VARIANT=INSTANCES")
    parser.add_argument("--variant", help="the one to replace; default: all")
    parser.add_argument("--image", help="new image of the multi-model container")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="added")
    parser.add_argument("--cache", choices=("Enabled", "Disabled"))
    parser.add_argument("--instance-type")
    parser.add_argument("--cuda", choices=AMI_OF_CUDA, help="CUDA of the new image, on GPUs")
    parser.add_argument("--config", help="an existing configuration to go to")
    options = parser.parse_args()
    in_place = options.weight or options.count
    anew = options.image or options.env or options.cache or options.instance_type or options.cuda
    if sum(map(bool, (in_place, anew, options.config))) != 1:
        parser.error("give weights and counts, or what to replace, or --config: one of the three")
    return options


def shift(client: Any, options: argparse.Namespace) -> None:
    wishes: dict[str, Request] = {}
    for member, texts, number in (
        ("DesiredWeight", options.weight, float),
        ("DesiredInstanceCount", options.count, int),
    ):
        for name, value in pairs(texts).items():
            try:
                wishes.setdefault(name, {"VariantName": name})[member] = number(value)
            except ValueError as error:
                raise Mistake(f"{name}={value}: {error}") from error
    client.update_endpoint_weights_and_capacities(
        EndpointName=options.endpoint, DesiredWeightsAndCapacities=list(wishes.values())
    )


def pairs(texts: list[str]) -> dict[str, str]:
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise Mistake(f"expected NAME=VALUE, got {text!r}")
    return {text.partition("=")[0]: text.partition("=")[2] for text in texts}


# Blue/green


def new_config(client: Any, options: argparse.Namespace) -> str:
    stamp = f"{options.endpoint}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    old = client.describe_endpoint(EndpointName=options.endpoint)["EndpointConfigName"]
    config = client.describe_endpoint_config(EndpointConfigName=old)
    variants = config["ProductionVariants"]
    names = [v["VariantName"] for v in variants]
    if options.variant and options.variant not in names:
        raise Mistake(f"there is no variant {options.variant}, only {', '.join(names)}")
    for variant in variants:
        if options.variant in (None, variant["VariantName"]):
            change(client, variant, f"{stamp}-{variant['VariantName']}", options)
    kept = {member: config[member] for member in CONFIG_MEMBERS if member in config}
    client.create_endpoint_config(
        EndpointConfigName=stamp,
        ProductionVariants=variants,
        **kept,
        **tags(client, config["EndpointConfigArn"]),
    )
    print(f"configuration {old} -> {stamp}")
    return stamp


def change(client: Any, variant: Request, name: str, options: argparse.Namespace) -> None:
    if options.image or options.env or options.cache:
        model = client.describe_model(ModelName=variant["ModelName"])
        request = {member: model[member] for member in MODEL_MEMBERS if model.get(member)}
        change_container(multi_model_container(request), options)
        client.create_model(ModelName=name, **request, **tags(client, model["ModelArn"]))
        print(f"model {variant['ModelName']} -> {name}")
        variant["ModelName"] = name
    variant["InstanceType"] = options.instance_type or variant["InstanceType"]
    if not GPU_FAMILY.match(variant["InstanceType"]):
        variant.pop("InferenceAmiVersion", None)
    elif options.cuda or "InferenceAmiVersion" not in variant:
        variant["InferenceAmiVersion"] = AMI_OF_CUDA[options.cuda or "13.0"]


def multi_model_container(model: Request) -> Request:
    containers: list[Request] = model.get("Containers") or [model["PrimaryContainer"]]
    for container in containers:
        if container.get("Mode") == "MultiModel":
            return container
    raise Mistake("this endpoint has no multi-model container")


def change_container(container: Request, options: argparse.Namespace) -> None:
    if options.image:
        container["Image"] = options.image
    if options.env:
        container["Environment"] = {**container.get("Environment", {}), **pairs(options.env)}
    if options.cache:
        container["MultiModelConfig"] = {"ModelCacheSetting": options.cache}


def tags(client: Any, arn: str) -> Request:
    found = client.list_tags(ResourceArn=arn)["Tags"]
    # Those of AWS's own services cannot be given again.
    own = [tag for tag in found if not tag["Key"].startswith("aws:")]
    return {"Tags": own} if own else {}


def replace_instances(client: Any, endpoint: str, config: str) -> None:
    # Otherwise the new configuration would undo shifted weights and what autoscaling decided.
    client.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=config, RetainAllVariantProperties=True
    )


def wait(client: Any, endpoint: str) -> Request:
    began = time.monotonic()

    def progress(parsed: Request, **_: Any) -> None:
        status = parsed.get("EndpointStatus", "unknown")
        print(f"{endpoint}: {status} after {time.monotonic() - began:.0f} s", flush=True)

    client.meta.events.register("after-call.sagemaker.DescribeEndpoint", progress)
    client.get_waiter("endpoint_in_service").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": POLL_S, "MaxAttempts": POLLS}
    )
    client.meta.events.unregister("after-call.sagemaker.DescribeEndpoint", progress)
    described: Request = client.describe_endpoint(EndpointName=endpoint)
    return described


def check_config(described: Request, config: str) -> None:
    """An update that fails is rolled back: in service again, with the earlier configuration."""
    if described["EndpointConfigName"] != config:
        reason = described.get("FailureReason", "no reason was given")
        raise Mistake(f"the endpoint serves as before, the update failed: {reason}")


def show(described: Request) -> None:
    for variant in described["ProductionVariants"]:
        print(
            f"{variant['VariantName']}: weight {variant.get('CurrentWeight')}, "
            f"{variant.get('CurrentInstanceCount')} instances"
        )


def explained(error: Exception) -> str:
    text = str(error)
    if isinstance(error, WaiterError):
        text = error.last_response.get("FailureReason") or text
    if "com.amazonaws.sagemaker.capabilities." in text:
        return (
            f"{text} | the image lacks the label "
            "com.amazonaws.sagemaker.capabilities.multi-models=true"
        )
    return text + ADVICE.get(type(error).__name__, "")


ADVICE = {
    "NoCredentialsError": " | run `aws configure` or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NoRegionError": " | set AWS_DEFAULT_REGION",
}


if __name__ == "__main__":
    main()
