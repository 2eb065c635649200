"""python scripts/autoscale.py many-models --variant AllTraffic --min 2 --max 6 --invocations 600

Registers a target-tracking scaling policy for a variant of an endpoint: here, about 600 invocations per
minute and instance, with 2 to 6 instances. --remove deletes the policy and keeps the present number of
instances.
"""

import argparse
from typing import Any

import boto3

import command_line
from command_line import ScriptError

DIMENSION = "sagemaker:variant:DesiredInstanceCount"


def main() -> None:
    options = arguments()
    with command_line.errors_in_one_line():
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


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    option = parser.add_argument
    option("endpoint", help="name of the endpoint")
    option("--variant", default="AllTraffic", help="variant to scale (default: %(default)s)")
    option("--min", type=int, default=2, help="minimum number of instances (default: %(default)s)")
    option("--max", type=int, default=4, help="maximum number of instances (default: %(default)s)")
    option(
        "--invocations",
        type=float,
        default=600,
        help="target of invocations per minute and instance (default: %(default)s)",
    )
    option(
        "--cooldown-out",
        type=int,
        default=60,
        help="seconds between two scale-outs (default: %(default)s)",
    )
    # An instance that is removed loses its loaded models, so scale in slowly.
    option(
        "--cooldown-in",
        type=int,
        default=600,
        help="seconds between two scale-ins (default: %(default)s)",
    )
    option("--remove", action="store_true", help="delete the scaling policy instead")
    return parser.parse_args()


def check_variant(endpoint: str, variant: str) -> None:
    summary = boto3.client("sagemaker").describe_endpoint(EndpointName=endpoint)
    known = [v["VariantName"] for v in summary.get("ProductionVariants", [])]
    if variant not in known:
        raise ScriptError(f"{endpoint} has no variant {variant}, only {', '.join(known)}")


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
    """Deregister the target, which also deletes its policies."""
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


if __name__ == "__main__":
    main()
