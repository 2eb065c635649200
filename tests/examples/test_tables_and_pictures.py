"""knn, home_values and digits: the committed artifacts reach the scores in their READMEs, and a multi-model
endpoint answers their sample requests, sent with boto3."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import skops.io
import xgboost

from emulator.hosting.fleet_hosting import create_hosting
from emulator.platform import LocalSageMaker
from examples.digits import train as digits
from examples.five_models.package import pack
from examples.home_values import train as home_values
from examples.knn import train as knn
from examples.package import EXAMPLES, FOLDERS, artifacts
from model_handler.handlers.estimators import TRUSTED
from model_handler.handlers.onnx_graphs import OnnxGraph

ROLE = "arn:aws:iam::123456789012:role/SageMakerExecutionRole"
BUCKET, NAME = "examples", "examples"
REQUESTS = [
    pytest.param(request, id=f"{folder}-{index}")
    for folder in FOLDERS
    for index, request in enumerate(json.loads((EXAMPLES / folder / "requests.json").read_text()))
]


def score(folder: str) -> Any:
    return json.loads((EXAMPLES / folder / "score.json").read_text())


# ---- the artifacts, by the libraries that made them ----


def test_knn_reaches_the_stated_accuracy() -> None:
    model = skops.io.load(knn.ARTIFACT / "model.skops", trusted=sorted(TRUSTED))
    _, held_out, _, expected = knn.flowers()
    assert len(held_out) == score("knn")["held_out"]
    assert model.score(held_out, expected) >= score("knn")["accuracy"] - 0.001


def test_home_values_reach_the_stated_error() -> None:
    stated = score("home_values")["median_error"]
    for city in home_values.CITIES:
        model = xgboost.Booster(model_file=home_values.ARTIFACTS / city / "model.ubj")
        assert home_values.error(model, city) <= stated[city] + 0.0005


def test_digits_reach_the_stated_accuracy() -> None:
    # A session with its own threads, since a worker's shared thread pool cannot be set up in the same process
    session = OnnxGraph(digits.ARTIFACT / "model.onnx", 0).native
    _, held_out, _, expected = digits.digits()
    (found,) = session.run(None, {"pictures": held_out})
    right = (found.argmax(-1) == expected).mean()
    assert len(held_out) == score("digits")["held_out"]
    assert right >= score("digits")["accuracy"] - 0.004  # processors round differently


@pytest.mark.parametrize("folder", FOLDERS)
def test_readme_states_the_score(folder: str) -> None:
    text = (EXAMPLES / folder / "README.md").read_text()
    stated = score(folder)
    figures = stated.get("median_error", {"": stated.get("accuracy")}).values()
    assert all(f"{figure:.3f}" in text for figure in figures)


def test_artifacts_stay_small_and_say_nothing_of_the_machine_they_were_made_on() -> None:
    files = [file for folder in artifacts().values() for file in folder.iterdir()]
    assert sum(file.stat().st_size for file in files) < 700_000
    assert not any(b'File "/' in file.read_bytes() for file in files)


# ---- behind an endpoint ----


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One endpoint with all six models, in one container."""
    folder = tmp_path_factory.mktemp("archives")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with LocalSageMaker(lambda url: create_hosting(s3=url), environ=environ) as platform:
        upload(platform.client("s3"), folder)
        deploy(platform.client("sagemaker"))
        yield platform.client("sagemaker-runtime")


def upload(s3: Any, folder: Path) -> None:
    s3.create_bucket(Bucket=BUCKET)
    for name, directory in artifacts().items():
        pack(directory, folder / f"{name}.tar.gz")
        s3.upload_file(folder / f"{name}.tar.gz", BUCKET, f"models/{name}.tar.gz")


def deploy(sagemaker: Any) -> None:
    container = {
        "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/multi-model:latest",
        "Mode": "MultiModel",
        "ModelDataUrl": f"s3://{BUCKET}/models/",
        "Environment": {"MME_DEVICE": "cpu"},
    }
    sagemaker.create_model(ModelName=NAME, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": NAME,
        "InstanceType": "ml.m5.xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=NAME, EndpointConfigName=NAME)
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=NAME, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


@pytest.mark.parametrize("request_", REQUESTS)
def test_sample_request_gets_its_answer(runtime: Any, request_: dict[str, Any]) -> None:
    accept = {"Accept": request_["accept"]} if request_["accept"] else {}
    response = runtime.invoke_endpoint(
        EndpointName=NAME,
        TargetModel=f"{request_['model']}.tar.gz",
        ContentType=request_["content_type"],
        Body=request_["body"],
        **accept,
    )
    answer, expected = response["Body"].read().decode(), request_["answer"]
    if isinstance(expected, str):
        assert response["ContentType"] == "text/csv"
        assert answer == expected
    else:
        assert response["ContentType"] == "application/json"
        assert json.loads(answer) == rounded(expected)


def rounded(document: Any) -> Any:
    """Processors differ in the last digits."""
    if isinstance(document, dict):
        return {name: rounded(each) for name, each in document.items()}
    if isinstance(document, list):
        return [rounded(each) for each in document]
    return pytest.approx(document, rel=1e-5, abs=1e-4) if isinstance(document, float) else document


def test_the_digit_is_recognised(runtime: Any) -> None:
    (request,) = json.loads((EXAMPLES / "digits" / "requests.json").read_text())
    response = runtime.invoke_endpoint(
        EndpointName=NAME,
        TargetModel="digits.tar.gz",
        ContentType=request["content_type"],
        Body=request["body"],
    )
    (chances,) = json.loads(response["Body"].read())["predictions"]
    assert chances.index(max(chances)) == request["shows"]


def test_a_wrong_row_is_a_400_with_the_reason(runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        runtime.invoke_endpoint(
            EndpointName=NAME, TargetModel="iris_knn.tar.gz", ContentType="text/csv", Body="1,2"
        )
    assert caught.value.response["OriginalStatusCode"] == 400
    assert "takes 4 columns, the input has 2" in caught.value.response["OriginalMessage"]


# ---- packaging ----


def test_archives_have_the_model_at_their_root(tmp_path: Path) -> None:
    assert set(artifacts()) == {"iris_knn", "digits", *home_values.CITIES}
    pack(artifacts()["houston"], tmp_path / "houston.tar.gz")
    with tarfile.open(tmp_path / "houston.tar.gz") as archive:
        assert archive.getnames() == ["model.ubj"]
