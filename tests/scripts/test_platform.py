"""Every script against the local platform, with the command of its docstring, on one deployment.

The last test deletes it; the other tests do not change it.
"""

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from emulator.hosting.fleet_hosting import create_hosting
from emulator.platform import LocalSageMaker
from tests import artifacts
from tests.scripts.runs import command, run

ENDPOINT = "many-models"
LABEL = "com.amazonaws.sagemaker.capabilities.multi-models"


class Deployment:
    def __init__(self, platform: LocalSageMaker, folder: Path) -> None:
        self.platform = platform
        self.folder = folder

    def run(self, script: str, *words: str) -> "CompletedProcess[str]":
        """Run a script with the given words, or with the command of its docstring."""
        line = ["python", f"scripts/{script}", *words] if words else command(script)
        return run(line, self.folder, self.platform.environment)

    def succeed(self, script: str, *words: str) -> str:
        done = self.run(script, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def fail(self, script: str, *words: str) -> str:
        done = self.run(script, *words)
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Uploads sentiment.tar.gz and creates the endpoint with the command of deploy.py's docstring."""
    folder = tmp_path_factory.mktemp("scripts")
    artifacts.bert_classifier(folder / "sentiment")
    # The platform does not get AWS variables of this machine.
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    with LocalSageMaker(lambda url: create_hosting(s3=url), environ=environ) as platform:
        platform.client("s3").create_bucket(Bucket="my-bucket")
        deployment = Deployment(platform, folder)
        assert "uploaded s3://my-bucket/models/sentiment.tar.gz" in deployment.succeed(
            "package_model.py"
        )
        deployed = deployment.succeed("deploy.py")
        assert "many-models: InService" in deployed
        yield deployment


def test_deploy_created_what_the_dry_run_prints(deployment: Deployment) -> None:
    client = deployment.platform.client("sagemaker")
    described = client.describe_endpoint(EndpointName=ENDPOINT)
    config = client.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    (variant,) = config["ProductionVariants"]
    printed = run([*command("deploy.py"), "--dry-run"], deployment.folder, {}).stdout
    (planned,) = json.loads(printed)[1]["request"]["ProductionVariants"]
    assert {**variant, "ModelName": ""} == {**planned, "ModelName": ""}
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2


def test_an_endpoint_is_not_deployed_twice(deployment: Deployment) -> None:
    assert ENDPOINT in deployment.fail("deploy.py")


def test_list_models(deployment: Deployment) -> None:
    assert "sentiment.tar.gz" in deployment.succeed("list_models.py")


def test_list_models_of_a_prefix(deployment: Deployment) -> None:
    listed = deployment.succeed("list_models.py", "s3://my-bucket/models")
    assert "sentiment.tar.gz" in listed


def test_add_model_overwrites_nothing(deployment: Deployment) -> None:
    """The command of the docstring, after package_model.py has uploaded the same name."""
    assert "exists and is not overwritten" in deployment.fail("add_model.py")


def test_an_added_model_is_served_at_once(deployment: Deployment) -> None:
    added = ["sentiment.tar.gz", ENDPOINT, "--name", "team/second.tar.gz"]
    assert "TargetModel=team/second.tar.gz" in deployment.succeed("add_model.py", *added)
    answer = deployment.succeed("invoke.py", ENDPOINT, "team/second.tar.gz", "--text", "hello")
    assert {"label", "score"} == set(json.loads(answer)[0])


def test_add_model_refuses_what_is_no_archive(deployment: Deployment) -> None:
    (deployment.folder / "text.tar.gz").write_text("no archive")
    assert "not a readable tar.gz" in deployment.fail("add_model.py", "text.tar.gz", ENDPOINT)


def test_a_model_of_one_file_can_be_added(deployment: Deployment) -> None:
    (deployment.folder / "booster").mkdir()
    (deployment.folder / "booster" / "model.ubj").write_bytes(b"a booster")
    deployment.succeed("package_model.py", "booster")
    assert "TargetModel=booster.tar.gz" in deployment.succeed(
        "add_model.py", "booster.tar.gz", "s3://my-bucket/models/"
    )


def test_invoke(deployment: Deployment) -> None:
    (answer,) = json.loads(deployment.succeed("invoke.py"))
    assert 0 <= answer["score"] <= 1


def test_invoke_with_json_and_with_a_file(deployment: Deployment) -> None:
    invoke = partial(deployment.succeed, "invoke.py", ENDPOINT, "sentiment.tar.gz")
    document = json.dumps({"inputs": ["hello", "world"]})
    (deployment.folder / "request.json").write_text(document)
    both = [invoke("--json", document), invoke("--file", "request.json")]
    assert json.loads(both[0]) == json.loads(both[1])
    assert len(json.loads(both[0])) == 2


def test_invoke_names_the_variant(deployment: Deployment) -> None:
    words = [ENDPOINT, "sentiment.tar.gz", "--text", "hello", "--variant", "AllTraffic"]
    assert "variant=AllTraffic" in deployment.run("invoke.py", *words).stderr


def test_invoke_tells_what_the_model_answered(deployment: Deployment) -> None:
    words = [ENDPOINT, "sentiment.tar.gz", "--text", "{", "--content-type", "application/json"]
    assert "the model answered 400: " in deployment.fail("invoke.py", *words)


def test_no_such_model(deployment: Deployment) -> None:
    said = deployment.fail("invoke.py", ENDPOINT, "nothing.tar.gz", "--text", "hello")
    assert "ValidationError" in said


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("invoke.py", ["nowhere", "a.tar.gz", "--text", "hello"]),
        ("list_models.py", ["nowhere"]),
        ("update.py", ["nowhere", "--weight", "AllTraffic=1"]),
        ("autoscale.py", ["nowhere"]),
    ],
)
def test_no_such_endpoint(script: str, words: list[str], deployment: Deployment) -> None:
    said = deployment.fail(script, *words)
    assert "nowhere" in said
    assert "not find" in said or "not found" in said


def test_no_such_bucket(deployment: Deployment) -> None:
    words = command("deploy.py")[2:]
    words[0], words[words.index("--models") + 1] = "other", "s3://no-such-bucket/models/"
    assert "there is no bucket no-such-bucket" in deployment.fail("deploy.py", *words)


def test_a_bucket_of_another_region(deployment: Deployment) -> None:
    deployment.platform.client("s3", region_name="eu-west-1").create_bucket(
        Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    words = command("deploy.py")[2:]
    words[0], words[words.index("--models") + 1] = "other", "s3://far-away/models/"
    assert "far-away is in eu-west-1" in deployment.fail("deploy.py", *words)


def test_autoscale(deployment: Deployment) -> None:
    scaling = deployment.platform.client("application-autoscaling")
    assert "2 to 6 instances" in deployment.succeed("autoscale.py")
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 600
    assert "no longer scaled" in deployment.succeed("autoscale.py", ENDPOINT, "--remove")
    assert not scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert "was not scaled" in deployment.succeed("autoscale.py", ENDPOINT, "--remove")


def test_update_in_place(deployment: Deployment) -> None:
    assert "AllTraffic: weight 1.0, 2 instances" in deployment.succeed("update.py")


def test_teardown_leaves_only_the_archives(deployment: Deployment) -> None:
    """After an update to a new image, whose configuration and model are deleted too."""
    deployment.succeed("update.py", ENDPOINT, "--count", "AllTraffic=1")
    updated = deployment.succeed("update.py", ENDPOINT, "--image", "mme:new")
    assert "AllTraffic: weight 1.0, 1 instances" in updated
    assert json.loads(deployment.succeed("invoke.py"))
    deployment.platform.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId=f"endpoint/{ENDPOINT}/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=1,
        MaxCapacity=2,
    )
    assert "delete_endpoint many-models" in deployment.succeed("teardown.py")
    client = deployment.platform.client("sagemaker")
    assert not client.list_endpoints()["Endpoints"]
    assert not client.list_endpoint_configs()["EndpointConfigs"]
    assert not client.list_models()["Models"]
    scaling = deployment.platform.client("application-autoscaling")
    assert not scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    # Again, when only the archives exist.
    archives = [ENDPOINT, "--yes", "--archives", "s3://my-bucket/models/"]
    assert "below s3://my-bucket/models/" in deployment.succeed("teardown.py", *archives)
    left = deployment.platform.client("s3").list_objects_v2(Bucket="my-bucket")
    assert left["KeyCount"] == 0
