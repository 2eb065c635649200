"""python scripts/demo.py

Serves the five models of examples/five_models from one multi-model endpoint of the local SageMaker, using
boto3 only. Steps: start the local SageMaker; upload the archives; create model, configuration and endpoint;
invoke each model by TargetModel; print the metrics of the platform; delete everything. The container has
memory for only three of the five models, so that it refuses loads with status 507, and the platform evicts
models and retries.
"""

import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

import command_line

REPOSITORY = Path(__file__).resolve().parent.parent
FIVE_MODELS = REPOSITORY / "examples" / "five_models"
BUCKET, PREFIX, NAME, VARIANT = "five-models", "models/", "five", "AllTraffic"
ROLE = "arn:aws:iam::123456789012:role/SageMakerExecutionRole"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/multi-model:latest"
DEVICE_MEMORY = "10MiB"  # the five need 14 MB
COLUMNS = (
    "1st",
    "again",
    "2nd",
    "again",
)  # two rounds, each with two consecutive requests per model
SETTLING_LIMIT_S = 30.0
METRICS = {
    "Invocations": "Sum",
    "ModelCacheHit": "Average",
    "ModelLoadingTime": "Average",
    "ModelLoadingWaitTime": "Average",
    "ModelUnloadingTime": "SampleCount",
}


def main() -> None:
    command_line.parser(__doc__).parse_args()
    models = json.loads((FIVE_MODELS / "requests.json").read_text(encoding="utf-8"))
    print("1. start the local SageMaker", flush=True)
    with local_sagemaker() as environment:
        os.environ.update(environment)
        print("2. upload five archives; create model, configuration, endpoint", flush=True)
        upload([model["name"] for model in models])
        deploy()
        print(
            "3. two rounds, each model twice in a row, with memory for three of them\n", flush=True
        )
        invoke(models)
        print("\n4. what the platform counted\n", flush=True)
        show_metrics(len(models) * len(COLUMNS))
        print("\n5. take it down", flush=True)
        tear_down()


@contextlib.contextmanager
def local_sagemaker() -> Iterator[dict[str, str]]:
    """Run `python -m emulator up`. Yields the environment variables that it prints."""
    command = [sys.executable, "-m", "emulator", "up"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as platform:
        try:
            assert platform.stdout is not None
            yield exports(iter(platform.stdout.readline, ""))
        finally:
            platform.terminate()


def exports(lines: Iterator[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        if line.strip() == "ready":
            return found
        name, _, value = line.strip().removeprefix("export ").partition("=")
        found[name] = value
    raise SystemExit("the local SageMaker ended before it was ready")


def upload(names: list[str]) -> None:
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    with tempfile.TemporaryDirectory() as directory:
        package = [sys.executable, str(FIVE_MODELS / "package.py"), directory]
        subprocess.run(package, check=True, stdout=subprocess.DEVNULL)
        for name in names:
            s3.upload_file(f"{directory}/{name}.tar.gz", BUCKET, f"{PREFIX}{name}.tar.gz")


def deploy() -> None:
    sagemaker = boto3.client("sagemaker")
    container = {
        "Image": IMAGE,
        "Mode": "MultiModel",
        "ModelDataUrl": f"s3://{BUCKET}/{PREFIX}",
        "Environment": {"MME_DEVICE": "cpu", "MME_DEVICE_MEMORY": DEVICE_MEMORY},
    }
    sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {
        "VariantName": VARIANT,
        "ModelName": NAME,
        "InstanceType": "ml.m5.xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=NAME)


def invoke(models: list[dict[str, Any]]) -> None:
    retries = {"mode": "legacy", "max_attempts": 5}  # the default mode does not retry a slow load
    runtime = boto3.client("sagemaker-runtime", config=Config(read_timeout=70, retries=retries))
    line = "{:<18} " + "{:>7} " * len(COLUMNS) + " {}"
    times: dict[str, list[str]] = {model["name"]: [] for model in models}
    answers = {}
    for model in [*models, *models]:
        for _ in range(len(COLUMNS) // 2):
            began = time.perf_counter()
            answers[model["name"]] = ask(runtime, model)
            times[model["name"]].append(f"{(time.perf_counter() - began) * 1e3:,.0f}")
    print("\n" + line.format("milliseconds", *COLUMNS, "answer"))
    for name, answer in answers.items():
        print(line.format(name, *times[name], answer[:60]))


def ask(runtime: Any, model: dict[str, Any]) -> str:
    response = runtime.invoke_endpoint(
        EndpointName=NAME,
        TargetModel=f"{model['name']}.tar.gz",
        ContentType="application/json",
        Body=json.dumps(model["request"]),
    )
    return str(response["Body"].read().decode())


def show_metrics(invocations: int) -> None:
    """Print the metrics, after a wait: as on AWS, they arrive later than the requests they count."""
    cloudwatch = boto3.client("cloudwatch")
    deadline = time.monotonic() + SETTLING_LIMIT_S
    while statistics(cloudwatch, "Invocations", "Sum") != [(invocations, "None")]:
        if time.monotonic() > deadline:
            raise SystemExit(f"CloudWatch has not counted {invocations} invocations")
    for name, statistic in METRICS.items():
        for value, unit in statistics(cloudwatch, name, statistic):
            print(f"   {name:<22} {statistic:<12} {value:>14,.2f} {unit}")


def statistics(cloudwatch: Any, name: str, statistic: str) -> list[tuple[float, str]]:
    """One value over the last hours, with its unit; empty if no data has arrived yet."""
    now = datetime.datetime.now(datetime.UTC)
    dimensions = {"EndpointName": NAME, "VariantName": VARIANT}
    answer = cloudwatch.get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - datetime.timedelta(hours=12),
        EndTime=now + datetime.timedelta(hours=12),
        Period=86400,
        Statistics=[statistic],
    )
    return [(point[statistic], point["Unit"]) for point in answer["Datapoints"]]


def tear_down() -> None:
    sagemaker = boto3.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=NAME)
    sagemaker.delete_endpoint_config(EndpointConfigName=NAME)
    sagemaker.delete_model(ModelName=NAME)


if __name__ == "__main__":
    main()
