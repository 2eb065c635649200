"""python scripts/update.py many-models --weight AllTraffic=1 --count AllTraffic=2

Updates a running endpoint in one of three ways:
    --weight, --count   change traffic weights or instance counts of variants in place.
    --image, --env, --cache, --instance-type, --cuda
                        create new models and a new configuration from the present ones, and replace the
                        instances blue/green: old instances serve until the new ones are in service.
                        Weights and counts stay.
    --config NAME       go back to an earlier configuration. Old configurations are kept; teardown.py
                        deletes them.
"""

import argparse
import re
import time
from typing import Any

import boto3
from botocore.exceptions import WaiterError

import command_line
from command_line import AMI_OF_CUDA, ApiObject, ScriptError, pairs

GPU_FAMILY = re.compile(r"ml\.(p|g)\d")
# Members that describe_* returns and create_* accepts.
MODEL_MEMBERS = (
    "PrimaryContainer", "Containers", "ExecutionRoleArn", "VpcConfig",
    "EnableNetworkIsolation", "InferenceExecutionConfig",
)  # fmt: skip
CONFIG_MEMBERS = ("KmsKeyId",)


def main() -> None:
    options = arguments()
    with command_line.errors_in_one_line(explained):
        client = boto3.client("sagemaker")
        if options.weight or options.count:
            shift(client, options)
            described = command_line.wait(client, options.endpoint)
        else:
            config = options.config or new_config(client, options)
            replace_instances(client, options.endpoint, config)
            described = command_line.wait(client, options.endpoint)
            check_config(described, config)
        show(described)


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    option = parser.add_argument
    option("endpoint", help="name of the endpoint")
    option(
        "--weight",
        action="append",
        default=[],
        metavar="VARIANT=WEIGHT",
        help="new traffic weight of a variant; may be repeated",
    )
    option(
        "--count",
        action="append",
        default=[],
        metavar="VARIANT=INSTANCES",
        help="new number of instances of a variant; may be repeated",
    )
    option("--variant", help="the variant to replace (default: all variants)")
    option("--image", help="new image URI of the multi-model container")
    option(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="environment variable to add or change; may be repeated",
    )
    option("--cache", choices=("Enabled", "Disabled"), help="new ModelCacheSetting")
    option("--instance-type", help="new instance type")
    option("--cuda", choices=AMI_OF_CUDA, help="CUDA version of the new image, for GPU instances")
    option("--config", help="existing endpoint configuration to switch to")
    options = parser.parse_args()
    in_place = options.weight or options.count
    replacing = options.image or options.env or options.cache
    replacing = replacing or options.instance_type or options.cuda
    if sum(map(bool, (in_place, replacing, options.config))) != 1:
        parser.error(
            "give one of: --weight/--count; new settings (--image, --env, --cache, "
            "--instance-type, --cuda); --config"
        )
    return options


def shift(client: Any, options: argparse.Namespace) -> None:
    wishes: dict[str, ApiObject] = {}
    for member, texts, number in (
        ("DesiredWeight", options.weight, float),
        ("DesiredInstanceCount", options.count, int),
    ):
        for name, value in pairs(texts).items():
            try:
                wishes.setdefault(name, {"VariantName": name})[member] = number(value)
            except ValueError as error:
                raise ScriptError(f"{name}={value}: {error}") from error
    client.update_endpoint_weights_and_capacities(
        EndpointName=options.endpoint, DesiredWeightsAndCapacities=list(wishes.values())
    )


# Blue/green


def new_config(client: Any, options: argparse.Namespace) -> str:
    stamp = f"{options.endpoint}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    old = client.describe_endpoint(EndpointName=options.endpoint)["EndpointConfigName"]
    config = client.describe_endpoint_config(EndpointConfigName=old)
    variants = config["ProductionVariants"]
    names = [v["VariantName"] for v in variants]
    if options.variant and options.variant not in names:
        raise ScriptError(f"there is no variant {options.variant}, only {', '.join(names)}")
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


def change(client: Any, variant: ApiObject, name: str, options: argparse.Namespace) -> None:
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


def multi_model_container(model: ApiObject) -> ApiObject:
    containers: list[ApiObject] = model.get("Containers") or [model["PrimaryContainer"]]
    for container in containers:
        if container.get("Mode") == "MultiModel":
            return container
    raise ScriptError("this endpoint has no multi-model container")


def change_container(container: ApiObject, options: argparse.Namespace) -> None:
    if options.image:
        container["Image"] = options.image
    if options.env:
        container["Environment"] = {**container.get("Environment", {}), **pairs(options.env)}
    if options.cache:
        container["MultiModelConfig"] = {"ModelCacheSetting": options.cache}


def tags(client: Any, arn: str) -> ApiObject:
    found = client.list_tags(ResourceArn=arn)["Tags"]
    # Tags that AWS services created cannot be set by users.
    own = [tag for tag in found if not tag["Key"].startswith("aws:")]
    return {"Tags": own} if own else {}


def replace_instances(client: Any, endpoint: str, config: str) -> None:
    # Otherwise the new configuration would reset weights and the instance counts set by autoscaling.
    client.update_endpoint(
        EndpointName=endpoint, EndpointConfigName=config, RetainAllVariantProperties=True
    )


def check_config(described: ApiObject, config: str) -> None:
    """Raises ScriptError if the update failed: SageMaker then rolls back to the earlier configuration."""
    if described["EndpointConfigName"] != config:
        reason = described.get("FailureReason", "no reason was given")
        raise ScriptError(f"the endpoint serves as before, the update failed: {reason}")


def show(described: ApiObject) -> None:
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
    return text


if __name__ == "__main__":
    main()
