"""A typical program for SageMaker multi-model endpoints, written for AWS, not for this project.

python house_prices.py IMAGE DIRECTORY: creates role, bucket, model, configuration and endpoint, sends a
hundred requests to random models in subfolders, adds models while it serves, cleans up. The directory
has one `.tar.gz` per city.
"""

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import boto3

PREFIX = "house-prices/multi_model_artifacts"


def main(image: str, directory: Path) -> None:
    archives = sorted(directory.glob("*.tar.gz"))
    region = boto3.Session().region_name
    account = boto3.client("sts").get_caller_identity()["Account"]
    bucket = f"sagemaker-{region}-{account}"
    role = create_role()
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=bucket)
    first, later = archives[:-2], archives[-2:]
    for archive in first:
        s3.upload_file(str(archive), bucket, f"{PREFIX}/{target(archive)}")

    name = f"house-prices-{int(time.time())}"
    sagemaker = boto3.client("sagemaker")
    model = sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=role,
        PrimaryContainer={
            "Image": image,
            "ModelDataUrl": f"s3://{bucket}/{PREFIX}/",
            "Mode": "MultiModel",
            "Environment": {"MME_DEVICE": "cpu"},
        },
    )
    print("model", model["ModelArn"])
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "InstanceType": "ml.m4.xlarge",
                "InitialInstanceCount": 1,
                "InitialVariantWeight": 1,
                "ModelName": name,
                "VariantName": "AllTraffic",
            }
        ],
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    print("status", sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"])

    for archive in random.Random(7).choices(first, k=100):
        check(predict(name, target(archive)), archive)
    print("invoked 100")

    for archive in later:  # an upload is enough to add a model
        s3.upload_file(str(archive), bucket, f"{PREFIX}/{target(archive)}")
        check(predict(name, target(archive)), archive)
    print("added", len(later))

    try:
        predict(name, "Atlantis/nowhere.tar.gz")
    except boto3.client("sagemaker-runtime").exceptions.ClientError as error:
        print("missing", error.response["Error"]["Code"])

    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name)
    sagemaker.delete_endpoint_config(EndpointConfigName=name)
    sagemaker.delete_model(ModelName=name)
    print("left", len(sagemaker.list_endpoints(NameContains=name)["Endpoints"]))


def create_role() -> str:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sagemaker.amazonaws.com"},
                "Action": "sts:AssumeRole",
            }
        ],
    }
    answer = boto3.client("iam").create_role(
        RoleName="house-prices", AssumeRolePolicyDocument=json.dumps(trust)
    )
    return str(answer["Role"]["Arn"])


def target(archive: Path) -> str:
    city = archive.name.partition(".")[0]
    return f"{city[0].upper()}/{city}/{archive.name}"


def predict(endpoint: str, target_model: str) -> Any:
    response = boto3.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint,
        ContentType="application/json",
        TargetModel=target_model,
        Body=json.dumps({"inputs": "a house with a garden"}),
    )
    return json.loads(response["Body"].read())


def check(answer: Any, archive: Path) -> None:
    """The labels of each city's model begin with the name of the city."""
    city = archive.name.partition(".")[0]
    if not answer[0]["label"].startswith(f"{city}-"):
        raise SystemExit(f"{archive.name} was answered by another model: {answer}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
