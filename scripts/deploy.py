r"""python scripts/deploy.py many-models --models s3://my-bucket/models/ \
    --image 123456789012.dkr.ecr.us-east-1.amazonaws.com/mme:latest \
    --role arn:aws:iam::123456789012:role/many-models --instance-type ml.g5.xlarge

Creates a model in MultiModel mode, an endpoint configuration and an endpoint, and waits until the
endpoint is in service. Every .tar.gz archive below the --models prefix can then be invoked by its name;
archives added later need no new deployment. --dry-run prints the requests without sending them.

Example of two variants, with 90 % of the requests to the first:
    --variant a,weight=9 --variant b,weight=1,image=NEW_IMAGE
Keys of --variant: image, models, instance-type, count, weight. To run another container before the
multi-model container, as a serial inference pipeline, use --preprocessor IMAGE.
"""

import argparse
import json
import os
import re
import time
from dataclasses import dataclass

import boto3
import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError, WaiterError
from botocore.validate import ParamValidator

import command_line
from command_line import AMI_OF_CUDA, ApiObject, ScriptError, pairs

ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
GPU_FAMILY = re.compile(r"ml\.(p|g)\d")
LABELS = "com.amazonaws.sagemaker.capabilities."


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    image: str
    models: str
    instance_type: str
    count: int
    weight: float


def main() -> None:
    options = arguments()
    with command_line.errors_in_one_line(explained):
        variants = chosen_variants(options)
        requests = planned(options, variants)
        if options.dry_run:
            print(json.dumps([{"operation": o, "request": r} for o, r in requests], indent=2))
            return
        check_buckets(variants)
        send(requests, options.endpoint)


def arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    option = parser.add_argument
    option("endpoint", help="name of the endpoint to create")
    option("--models", required=True, metavar="S3_PREFIX", help="prefix of the model archives")
    option("--image", required=True, help="URI of the multi-model image in ECR")
    option(
        "--role",
        default=os.environ.get("SAGEMAKER_ROLE"),
        help="ARN of the execution role (default: the environment variable SAGEMAKER_ROLE)",
    )
    option("--instance-type", default="ml.m5.xlarge", help="instance type (default: %(default)s)")
    option(
        "--count",
        type=int,
        default=2,
        help="initial number of instances of each variant (default: %(default)s)",
    )
    option(
        "--variant",
        action="append",
        default=[],
        metavar="NAME[,KEY=VALUE…]",
        help="a variant and its settings; may be repeated (default: one variant, AllTraffic)",
    )
    option(
        "--cache",
        choices=("Enabled", "Disabled"),
        default="Enabled",
        help="ModelCacheSetting: keep models in memory after a request (default: %(default)s)",
    )
    option(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="environment variable of the container; may be repeated",
    )
    option(
        "--tag",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="tag of all created resources; may be repeated",
    )
    option("--preprocessor", metavar="IMAGE", help="container before the multi-model container")
    option("--preprocessor-data", metavar="S3_ARCHIVE", help="model.tar.gz of the preprocessor")
    option(
        "--cuda",
        choices=AMI_OF_CUDA,
        default="13.0",
        help="CUDA version of the image, for GPU instances (default: %(default)s)",
    )
    option(
        "--health-check-timeout",
        type=int,
        default=600,
        help="time limit for the container's start, in seconds (default: %(default)s)",
    )
    option(
        "--download-timeout",
        type=int,
        default=600,
        help="time limit for downloading a model, in seconds (default: %(default)s)",
    )
    option("--volume-gb", type=int, help="size of the EBS volume, for instances without local disk")
    option("--subnet", action="append", help="VPC subnet, with --security-group; may be repeated")
    option("--security-group", action="append", help="VPC security group; may be repeated")
    option("--network-isolation", action="store_true", help="run containers without network access")
    option("--dry-run", action="store_true", help="print the requests without sending them")
    return parser.parse_args()


# What to create


def chosen_variants(options: argparse.Namespace) -> list[Variant]:
    variants = [variant(text, options) for text in options.variant or ["AllTraffic"]]
    names = [v.name for v in variants]
    if len(set(names)) < len(names):
        raise ScriptError(f"two variants have one name: {', '.join(names)}")
    return variants


def variant(text: str, options: argparse.Namespace) -> Variant:
    name, *settings = text.split(",")
    own = {
        "image": options.image,
        "models": options.models,
        "instance-type": options.instance_type,
        "count": options.count,
        "weight": 1,
    }
    for key, value in pairs(settings).items():
        if key not in own:
            raise ScriptError(f"--variant knows no {key!r}, only {', '.join(own)}")
        own[key] = value
    try:
        count, weight = int(own["count"]), float(own["weight"])
    except ValueError as error:
        raise ScriptError(f"--variant {text}: {error}") from error
    return Variant(name, own["image"], prefix(own["models"]), own["instance-type"], count, weight)


def prefix(url: str) -> str:
    if not re.fullmatch(r"s3://[^/]+(/.*)?", url):
        raise ScriptError(f"--models takes a prefix such as s3://my-bucket/models/, not {url!r}")
    if url.endswith(".tar.gz"):
        raise ScriptError(f"--models takes the prefix above the archives, not an archive: {url}")
    return command_line.with_slash(url)


def planned(options: argparse.Namespace, variants: list[Variant]) -> list[tuple[str, ApiObject]]:
    """The operations in order, with requests that botocore's service model accepts. Raises ScriptError."""
    check_role(options.role)
    if bool(options.subnet) != bool(options.security_group):
        raise ScriptError("--subnet and --security-group go together")
    tags = [{"Key": k, "Value": v} for k, v in pairs(options.tag).items()]
    tagged = {"Tags": tags} if tags else {}
    stamp = f"{options.endpoint}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    models = {v.name: f"{stamp}-{v.name}" for v in variants}
    requests: list[tuple[str, ApiObject]] = [
        ("CreateModel", {**model_request(models[v.name], v, options), **tagged}) for v in variants
    ]
    hosted = [variant_request(models[v.name], v, options) for v in variants]
    config = {"EndpointConfigName": stamp, "ProductionVariants": hosted, **tagged}
    endpoint = {"EndpointName": options.endpoint, "EndpointConfigName": stamp, **tagged}
    requests += [("CreateEndpointConfig", config), ("CreateEndpoint", endpoint)]
    for operation, request in requests:
        check_request(operation, request)
    return requests


def check_role(role: str | None) -> None:
    if not role:
        raise ScriptError(
            "no role: give --role or set SAGEMAKER_ROLE (scripts/policies has its policy)"
        )
    if not ROLE.fullmatch(role):
        raise ScriptError(f"not the ARN of a role (arn:aws:iam::<account>:role/<name>): {role}")


def model_request(name: str, variant: Variant, options: argparse.Namespace) -> ApiObject:
    multi_model: ApiObject = {
        "Image": variant.image,
        "Mode": "MultiModel",
        "ModelDataUrl": variant.models,
        "MultiModelConfig": {"ModelCacheSetting": options.cache},
    }
    if options.env:
        multi_model["Environment"] = pairs(options.env)
    request: ApiObject = {"ModelName": name, "ExecutionRoleArn": options.role}
    if options.preprocessor:
        multi_model["ContainerHostname"] = "models"
        request["Containers"] = [preprocessor(options), multi_model]
    else:
        request["PrimaryContainer"] = multi_model
    if options.subnet:
        request["VpcConfig"] = {
            "Subnets": options.subnet,
            "SecurityGroupIds": options.security_group,
        }
    if options.network_isolation:
        request["EnableNetworkIsolation"] = True
    return request


def preprocessor(options: argparse.Namespace) -> ApiObject:
    container: ApiObject = {"ContainerHostname": "preprocessor", "Image": options.preprocessor}
    if options.preprocessor_data:
        container["ModelDataUrl"] = options.preprocessor_data
    return container


def variant_request(model: str, variant: Variant, options: argparse.Namespace) -> ApiObject:
    request: ApiObject = {
        "VariantName": variant.name,
        "ModelName": model,
        "InstanceType": variant.instance_type,
        "InitialInstanceCount": variant.count,
        "InitialVariantWeight": variant.weight,
        "ContainerStartupHealthCheckTimeoutInSeconds": options.health_check_timeout,
        "ModelDataDownloadTimeoutInSeconds": options.download_timeout,
    }
    if GPU_FAMILY.match(variant.instance_type):
        request["InferenceAmiVersion"] = AMI_OF_CUDA[options.cuda]
    if options.volume_gb:
        request["VolumeSizeInGB"] = options.volume_gb
    return request


def check_request(operation: str, request: ApiObject) -> None:
    """Check structure, types and lower bounds, as botocore does before it sends a request."""
    service = botocore.session.get_session().get_service_model("sagemaker")
    report = ParamValidator().validate(request, service.operation_model(operation).input_shape)
    if report.has_errors():
        raise ScriptError(f"{operation}: {report.generate_report().replace(chr(10), '; ')}")


# Create it


def check_buckets(variants: list[Variant]) -> None:
    """SageMaker reads archives only from buckets of its own region."""
    s3 = boto3.client("s3")
    for bucket in {v.models.split("/")[2] for v in variants}:
        try:
            region = s3.head_bucket(Bucket=bucket).get("BucketRegion")
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                continue  # The caller may lack s3:ListBucket even if the execution role has it.
            raise ScriptError(f"there is no bucket {bucket}") from error
        if region and region != s3.meta.region_name:
            raise ScriptError(
                f"bucket {bucket} is in {region}, the endpoint would be in {s3.meta.region_name}: "
                f"set AWS_DEFAULT_REGION={region} or copy the archives"
            )


def send(requests: list[tuple[str, ApiObject]], endpoint: str) -> None:
    client = boto3.client("sagemaker")
    for operation, request in requests:
        getattr(client, xform_name(operation))(**request)
        print(f"{operation} {next(v for k, v in request.items() if k.endswith('Name'))}")
    print(f"{endpoint}: starting; minutes on AWS", flush=True)
    command_line.wait(client, endpoint)


# Explain errors


def explained(error: Exception) -> str:
    text = str(error)
    if isinstance(error, WaiterError):
        text = error.last_response.get("FailureReason") or text
    if LABELS in text:
        return (
            f"{text} | the image lacks a label: multi-model images need LABEL "
            f"{LABELS}multi-models=true, those in a pipeline also {LABELS}accept-bind-to-port=true"
        )
    if "Could not access model data" in text or "assume" in text.lower():
        return f"{text} | check the role: scripts/policies/execution-role.json and trust.json"
    return text


if __name__ == "__main__":
    main()
