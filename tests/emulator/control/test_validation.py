"""Validation of requests, with AWS's error messages. The client's own validation is off."""

from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from emulator.control import service_models
from emulator.control.validation import compiled
from emulator.platform import LocalSageMaker
from tests.emulator.deployments import IMAGE, ROLE, variant

NAME_PATTERN = r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?"


@pytest.fixture(scope="module")
def unchecked(aws: LocalSageMaker) -> Any:
    """A client without parameter validation."""
    return aws.client("sagemaker", config=Config(parameter_validation=False))


def failure(client: Any, operation: str, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(**members)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def one(value: str, path: str, constraint: str) -> tuple[str, str]:
    violation = f"Value {value} at '{path}' failed to satisfy constraint: {constraint}"
    return "ValidationException", f"1 validation error detected: {violation}"


MODEL = {
    "ModelName": "m",
    "ExecutionRoleArn": ROLE,
    "PrimaryContainer": {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": "s3://b/p/"},
}
VARIANT = variant("m")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"ModelName": "a_b"},
            one(
                "'a_b'",
                "modelName",
                f"Member must satisfy regular expression pattern: {NAME_PATTERN}",
            ),
        ),
        (
            {"ModelName": "a" * 64},
            one(f"'{'a' * 64}'", "modelName", "Member must have length less than or equal to 63"),
        ),
        ({"ModelName": None}, one("null", "modelName", "Member must not be null")),
        (
            {"PrimaryContainer": {"Image": IMAGE, "Mode": "Multi"}},
            one(
                "'Multi'",
                "primaryContainer.mode",
                "Member must satisfy enum value set: [SingleModel, MultiModel]",
            ),
        ),
        (
            {"PrimaryContainer": {"Image": IMAGE, "Environment": {"A": "x" * 1025}}},
            one(
                f"'{{A={'x' * 1025}}}'",
                "primaryContainer.environment",
                "Map value must satisfy constraint: [Member must have length less than or equal to "
                "1024, Member must have length greater than or equal to 0, Member must satisfy "
                r"regular expression pattern: [\S\s]*]",
            ),
        ),
        (
            {"Containers": [{"Image": IMAGE}, {"Image": "a b"}]},
            one(
                "'a b'",
                "containers.2.member.image",
                r"Member must satisfy regular expression pattern: [\S]+",
            ),
        ),
    ],
)
def test_create_model(unchecked: Any, changed: dict[str, Any], expected: tuple[str, str]) -> None:
    given = {name: value for name, value in (MODEL | changed).items() if value is not None}
    assert failure(unchecked, "create_model", **given) == expected


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        (
            [],
            one("'[]'", "productionVariants", "Member must have length greater than or equal to 1"),
        ),
        (
            [VARIANT | {"InitialInstanceCount": 0}],
            one(
                "'0'",
                "productionVariants.1.member.initialInstanceCount",
                "Member must have value greater than or equal to 1",
            ),
        ),
        (
            [VARIANT | {"VolumeSizeInGB": 513}],
            one(
                "'513'",
                "productionVariants.1.member.volumeSizeInGB",
                "Member must have value less than or equal to 512",
            ),
        ),
    ],
)
def test_create_endpoint_config(
    unchecked: Any, variants: list[dict[str, Any]], expected: tuple[str, str]
) -> None:
    actual = failure(
        unchecked, "create_endpoint_config", EndpointConfigName="c", ProductionVariants=variants
    )
    assert actual == expected


def test_an_unknown_instance_type_names_the_known_ones(unchecked: Any) -> None:
    code, message = failure(
        unchecked,
        "create_endpoint_config",
        EndpointConfigName="c",
        ProductionVariants=[VARIANT | {"InstanceType": "ml.z9.large"}],
    )
    assert code == "ValidationException"
    assert message.startswith(
        "1 validation error detected: Value 'ml.z9.large' at "
        "'productionVariants.1.member.instanceType' failed to satisfy constraint: Member must "
        "satisfy enum value set: [ml."
    )


def test_all_violations_are_listed(unchecked: Any) -> None:
    _, message = failure(unchecked, "create_endpoint", EndpointName="a_b")
    assert message == (
        "2 validation errors detected: Value 'a_b' at 'endpointName' failed to satisfy constraint: "
        "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}; "
        "Value null at 'endpointConfigName' failed to satisfy constraint: Member must not be null"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ModelName": 1}, "NUMBER_VALUE can not be converted to a String"),
        ({"ModelName": ["m"]}, "Start of list found where not expected"),
        ({"ModelName": {}}, "Start of structure or map found where not expected."),
        ({"EnableNetworkIsolation": "yes"}, "STRING_VALUE can not be converted to a Boolean"),
        ({"ModelName": True}, "TRUE_VALUE can not be converted to a String"),
    ],
)
def test_a_wrong_type_is_refused(unchecked: Any, changed: dict[str, Any], message: str) -> None:
    actual = failure(unchecked, "create_model", **(MODEL | changed))
    assert actual == ("SerializationException", message)


def test_an_unknown_operation_is_named(unchecked: Any) -> None:
    assert failure(unchecked, "list_training_jobs") == (
        "UnknownOperationException",
        "The operation ListTrainingJobs is not available here.",
    )


def _patterns(shape: Any, seen: set[str]) -> set[str]:
    if shape is None or shape.name in seen:
        return set()
    seen.add(shape.name)
    nested = {
        "structure": lambda: list(shape.members.values()),
        "list": lambda: [shape.member],
        "map": lambda: [shape.key, shape.value],
    }.get(shape.type_name, list)()
    found = {shape.metadata["pattern"]} if "pattern" in shape.metadata else set()
    return found.union(*(_patterns(inner, seen) for inner in nested))


def test_every_pattern_of_the_service_models_compiles() -> None:
    """Detects new Java constructs in the patterns that Python's `re` does not have."""
    models = (service_models.control_plane(), service_models.runtime())
    served = {"CreateModel", "CreateEndpointConfig", "CreateEndpoint", "AddTags", "InvokeEndpoint"}
    patterns = set()
    for model in models:
        for name in served.intersection(model.operation_names):
            patterns |= _patterns(model.operation_model(name).input_shape, set())
    assert len(patterns) > 20
    for pattern in patterns:
        compiled(pattern)


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "Überschrift 1+1=2", True),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "a\tb", False),
        (r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)", "a#b", False),
        (r"\A\S[\p{Print}]*\z", "a b", True),
        (r"\A\S[\p{Print}]*\z", "a\n", False),
        (r"\p{ASCII}*", "é", False),
    ],
)
def test_patterns_mean_what_they_mean_in_java(pattern: str, value: str, fits: bool) -> None:
    assert (compiled(pattern).fullmatch(value) is not None) is fits
