"""InvokeEndpoint: what reaches the hosting side, and what the caller gets."""

import ast
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.emulator.deployments import Deployment
from tests.emulator.fake_hosting import BROKEN_IMAGE, SLOW_IMAGE

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def endpoint(sagemaker: Any) -> str:
    Deployment(sagemaker).endpoint("runtime")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="runtime")
    return "runtime"


def test_headers_are_forwarded_both_ways(runtime: Any, endpoint: str) -> None:
    answer = runtime.invoke_endpoint(
        EndpointName=endpoint,
        Body=b"\x00\xff",
        ContentType="application/x-npy",
        Accept="text/csv",
        CustomAttributes="a=b",
        InferenceId="inference-1",
        SessionId="NEW_SESSION",
        TargetModel="/sub/a.tar.gz",
        TargetContainerHostname="second",
    )
    headers, target = ast.literal_eval(answer["Body"].read().decode())
    assert dict(headers) == {
        "accept": "text/csv",
        "content-type": "application/x-npy",
        "x-amzn-sagemaker-custom-attributes": "a=b",
        "x-amzn-sagemaker-inference-id": "inference-1",
        "x-amzn-sagemaker-session-id": "NEW_SESSION",
    }
    assert target == ("/sub/a.tar.gz", None, "second")
    assert answer["ContentType"] == "text/x-echo"
    assert answer["InvokedProductionVariant"] == "one"
    assert answer["CustomAttributes"] == "seen=2"


def test_a_target_variant_is_forwarded(runtime: Any, endpoint: str) -> None:
    answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=b"", TargetVariant="other")
    assert answer["InvokedProductionVariant"] == "other"


def test_a_model_error_has_its_own_class_and_fields(runtime: Any, endpoint: str) -> None:
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        runtime.invoke_endpoint(EndpointName=endpoint, Body=b"fail")
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == 400
    assert response["OriginalMessage"] == "no"
    assert response["LogStreamArn"].startswith("arn:aws:logs:")
    assert response["Error"]["Message"].startswith("Received client error (400) from primary")


def test_a_model_that_is_not_ready(runtime: Any, endpoint: str) -> None:
    with pytest.raises(runtime.exceptions.ModelNotReadyException) as caught:
        runtime.invoke_endpoint(EndpointName=endpoint, Body=b"slow")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_a_bug_of_the_platform_is_an_internal_failure(aws: Any, endpoint: str) -> None:
    runtime = aws.client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(runtime.exceptions.InternalFailure):
        runtime.invoke_endpoint(EndpointName=endpoint, Body=b"bug")


def test_a_missing_endpoint(runtime: Any) -> None:
    with pytest.raises(runtime.exceptions.ValidationError) as caught:
        runtime.invoke_endpoint(EndpointName="missing", Body=b"")
    message = caught.value.response["Error"]["Message"]
    assert message == "Endpoint missing of account 123456789012 not found."


@pytest.mark.parametrize("image", [BROKEN_IMAGE, SLOW_IMAGE])
def test_an_endpoint_out_of_service(
    deploy: Deployment, runtime: Any, name: str, image: str
) -> None:
    deploy.endpoint(name, image)
    with pytest.raises(runtime.exceptions.ValidationError) as caught:
        runtime.invoke_endpoint(EndpointName=name, Body=b"")
    message = caught.value.response["Error"]["Message"]
    assert message == f"Endpoint {name} of account 123456789012 not found."


def test_the_longest_body_is_accepted(runtime: Any, endpoint: str) -> None:
    answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x" * (25 * MIB))
    assert answer["CustomAttributes"] == f"seen={25 * MIB}"


def test_a_longer_body_is_refused(runtime: Any, endpoint: str) -> None:
    with pytest.raises(ClientError) as caught:
        runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x" * (25 * MIB + 1))
    assert caught.value.response["Error"] == {
        "Code": "413",
        "Message": "HTTP content length exceeded 26214400 bytes.",
    }


def test_headers_are_checked_against_the_service_model(runtime: Any, endpoint: str) -> None:
    with pytest.raises(runtime.exceptions.ValidationError) as caught:
        runtime.invoke_endpoint(EndpointName=endpoint, Body=b"", InferenceId="x" * 65)
    assert caught.value.response["Error"]["Message"] == (
        f"1 validation error detected: Value '{'x' * 65}' at 'inferenceId' failed to satisfy "
        "constraint: Member must have length less than or equal to 64"
    )


@pytest.mark.parametrize(
    ("operation", "members", "message"),
    [
        (
            "invoke_endpoint_async",
            {"InputLocation": "s3://bucket/input"},
            "Endpoint runtime does not support asynchronous invocation.",
        ),
        (
            "invoke_endpoint_with_response_stream",
            {"Body": b""},
            "Endpoint runtime does not support response streaming.",
        ),
        (
            "invoke_endpoint",
            {"Body": b"", "InferenceComponentName": "component"},
            "Inference component invocation is not available for multi-model endpoints.",
        ),
    ],
)
def test_features_that_multi_model_endpoints_lack(
    runtime: Any, endpoint: str, operation: str, members: dict[str, Any], message: str
) -> None:
    with pytest.raises(runtime.exceptions.ValidationError) as caught:
        getattr(runtime, operation)(EndpointName=endpoint, **members)
    assert caught.value.response["Error"]["Message"] == message
