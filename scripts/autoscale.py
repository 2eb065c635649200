"""python scripts/autoscale.py many-models --variant AllTraffic --min 2 --max 6 --invocations 600

Keeps each instance of a variant near 600 invocations a minute, with 2 to 6 instances. --remove ends
it and leaves the instances as they are.
"""

import argparse
import sys
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

DIMENSION = "sagemaker:variant:DesiredInstanceCount"


def main() -> None:
    options = arguments()
    try:
        check_variant(options.endpoint, options.variant)
        client = boto3.client("application-autoscaling")
        target = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{options.endpoint}/variant/{options.variant}",
            "ScalableDimension": DIMENSION,
        }
        if options.remove:
            remove(client, target)
        else:
            register(client, target, options)
    except (BotoCoreError, ClientError) as error:
        sys.exit(f"autoscale.py: {error}{ADVICE.get(type(error).__name__, '')}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("endpoint")
    parser.add_argument("--variant", default="AllTraffic", help="default: %(default)s")
    parser.add_argument("--min", type=int, default=2, help="instances; default: %(default)s")
    parser.add_argument("--max", type=int, default=4, help="instances; default: %(default)s")
    parser.add_argument("--invocations", type=float, default=600, help="a minute and instance")
    parser.add_argument("--cooldown-out", type=int, default=60, help="s; default: %(default)s")
    # Instances that come and go lose their loaded models: leave slowly.
    parser.add_argument("--cooldown-in", type=int, default=600, help="s; default: %(default)s")
    parser.add_argument("--remove", action="store_true")
    return parser.parse_args()


def check_variant(endpoint: str, variant: str) -> None:
    summary = boto3.client("sagemaker").describe_endpoint(EndpointName=endpoint)
    known = [v["VariantName"] for v in summary.get("ProductionVariants", [])]
    if variant not in known:
        sys.exit(f"autoscale.py: {endpoint} has no variant {variant}, only {', '.join(known)}")


def register(client: Any, target: dict[str, str], options: argparse.Namespace) -> None:
    client.register_scalable_target(**target, MinCapacity=options.min, MaxCapacity=options.max)
    client.put_scaling_policy(
        **target,
        PolicyName=policy(target),
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": options.invocations,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
            },
            "ScaleOutCooldown": options.cooldown_out,
            "ScaleInCooldown": options.cooldown_in,
        },
    )
    print(f"{target['ResourceId']}: {options.min} to {options.max} instances")


def remove(client: Any, target: dict[str, str]) -> None:
    """Its policies go with a target."""
    registered = client.describe_scalable_targets(
        ServiceNamespace=target["ServiceNamespace"], ResourceIds=[target["ResourceId"]]
    )
    if not registered["ScalableTargets"]:
        print(f"{target['ResourceId']}: was not scaled")
        return
    client.deregister_scalable_target(**target)
    print(f"{target['ResourceId']}: no longer scaled")


def policy(target: dict[str, str]) -> str:
    return target["ResourceId"].replace("/", "-") + "-invocations"


ADVICE = {
    "NoCredentialsError": " | run `aws configure` or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "NoRegionError": " | set AWS_DEFAULT_REGION",
}


if __name__ == "__main__":
    main()
