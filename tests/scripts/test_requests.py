"""The requests of deploy.py --dry-run, and its messages for frequent errors, without a platform."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.runs import command, run

AMI = "al2023-ami-sagemaker-inference-gpu-4-1"
REGION = {"AWS_DEFAULT_REGION": "us-east-1"}


def requests(folder: Path, *more: str) -> list[dict[str, Any]]:
    done = run([*command("deploy.py"), "--dry-run", *more], folder, {})
    assert done.returncode == 0, done.stderr
    printed: list[dict[str, Any]] = json.loads(done.stdout)
    return printed


def refusal(words: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    done = run(list(words), folder, environment)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def without(words: list[str], option: str) -> list[str]:
    position = words.index(option)
    return words[:position] + words[position + 2 :]


def replaced(words: list[str], option: str, value: str) -> list[str]:
    return [*without(words, option), option, value]


def test_the_plain_deployment(tmp_path: Path) -> None:
    model, config, endpoint = requests(tmp_path)
    container = model["request"]["PrimaryContainer"]
    assert container["Mode"] == "MultiModel"
    assert container["ModelDataUrl"] == "s3://my-bucket/models/"
    assert container["MultiModelConfig"] == {"ModelCacheSetting": "Enabled"}
    (variant,) = config["request"]["ProductionVariants"]
    assert variant["ModelName"] == model["request"]["ModelName"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.g5.xlarge", 2)
    assert variant["InferenceAmiVersion"] == AMI
    assert endpoint["operation"] == "CreateEndpoint"
    assert endpoint["request"]["EndpointConfigName"] == config["request"]["EndpointConfigName"]


def test_everything_that_can_be_asked_for(tmp_path: Path) -> None:
    first, second, config, _ = requests(
        tmp_path,
        *("--variant", "a,weight=9", "--variant", "b,weight=1,image=new,instance-type=ml.m5.large"),
        *("--preprocessor", "front", "--cache", "Disabled", "--env", "MME_DTYPE=bfloat16"),
        *("--tag", "team=search", "--cuda", "12.4", "--volume-gb", "100"),
        *("--subnet", "subnet-1", "--security-group", "sg-1", "--network-isolation"),
        *("--health-check-timeout", "900", "--download-timeout", "1200"),
    )
    front, container = first["request"]["Containers"]
    assert front == {"ContainerHostname": "preprocessor", "Image": "front"}
    assert container["Environment"] == {"MME_DTYPE": "bfloat16"}
    assert container["MultiModelConfig"] == {"ModelCacheSetting": "Disabled"}
    assert second["request"]["Containers"][1]["Image"] == "new"
    assert second["request"]["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert second["request"]["Tags"] == [{"Key": "team", "Value": "search"}]
    a, b = config["request"]["ProductionVariants"]
    assert (a["InitialVariantWeight"], b["InitialVariantWeight"]) == (9, 1)
    assert a["InferenceAmiVersion"] == "al2-ami-sagemaker-inference-gpu-3-1"
    assert "InferenceAmiVersion" not in b
    assert a["ContainerStartupHealthCheckTimeoutInSeconds"] == 900
    assert a["ModelDataDownloadTimeoutInSeconds"] == 1200


def test_a_prefix_gets_its_slash(tmp_path: Path) -> None:
    words = replaced(command("deploy.py"), "--models", "s3://my-bucket/models")
    done = run([*words, "--dry-run"], tmp_path, {})
    assert "using s3://my-bucket/models/" in done.stderr
    container = json.loads(done.stdout)[0]["request"]["PrimaryContainer"]
    assert container["ModelDataUrl"] == "s3://my-bucket/models/"


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--role", "my-role", "not the ARN of a role"),
        ("--models", "models/", "takes a prefix such as s3://"),
        ("--models", "s3://my-bucket/models/a.tar.gz", "not an archive"),
        ("--variant", "a,color=red", "knows no 'color'"),
        ("--count", "0", "CreateEndpointConfig"),
        ("--health-check-timeout", "5", "valid min value: 60"),
        ("--env", "DTYPE", "expected NAME=VALUE"),
        ("--subnet", "subnet-1", "go together"),
    ],
)
def test_mistakes_are_one_line(option: str, value: str, said: str, tmp_path: Path) -> None:
    words = command("deploy.py")
    words = replaced(words, option, value) if option in words else [*words, option, value]
    stderr = refusal([*words, "--dry-run"], tmp_path, {})
    assert said in stderr
    assert stderr.count("\n") == 1


def test_no_role(tmp_path: Path) -> None:
    assert "no role" in refusal(without(command("deploy.py"), "--role"), tmp_path, REGION)


def test_no_region(tmp_path: Path) -> None:
    assert "set AWS_DEFAULT_REGION" in refusal(command("list_models.py"), tmp_path, {})


def test_no_credentials(tmp_path: Path) -> None:
    assert "aws configure" in refusal(command("list_models.py"), tmp_path, REGION)
