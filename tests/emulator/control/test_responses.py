"""The responses of Describe and List calls conform to the service model, for random resources."""

import itertools
from typing import Any

from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emulator.control import service_models
from emulator.control.validation import validate
from tests.emulator.deployments import IMAGE, ROLE

_numbers = itertools.count()

words = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
environments = st.dictionaries(words, st.text("abc 1=é", max_size=8), max_size=3)
singles = st.fixed_dictionaries(
    {"Image": st.just(IMAGE)},
    optional={
        "Mode": st.just("SingleModel"),
        "Environment": environments,
        "ModelDataUrl": st.just("s3://bucket/model.tar.gz"),
        "ImageConfig": st.just({"RepositoryAccessMode": "Platform"}),
    },
)
multi_models = st.fixed_dictionaries(
    {
        "Image": st.just(IMAGE),
        "Mode": st.just("MultiModel"),
        "ModelDataUrl": st.sampled_from(["s3://bucket", "s3://bucket/prefix/"]),
    },
    optional={
        "Environment": environments,
        "MultiModelConfig": st.sampled_from([{}, {"ModelCacheSetting": "Disabled"}]),
    },
)
containers = st.one_of(
    st.one_of(singles, multi_models).map(lambda one: {"PrimaryContainer": one}),
    st.tuples(singles, multi_models).map(lambda all_: {"Containers": list(all_)}),
)
extras = st.fixed_dictionaries(
    {},
    optional={
        "EnableNetworkIsolation": st.booleans(),
        "VpcConfig": st.just({"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}),
        "InferenceExecutionConfig": st.just({"Mode": "Serial"}),
        "Tags": st.just([{"Key": "k", "Value": "v"}]),
    },
)
variants = st.fixed_dictionaries(
    {
        "InstanceType": st.sampled_from(["ml.m5.xlarge", "ml.g5.xlarge", "ml.g6.xlarge"]),
        "InitialInstanceCount": st.integers(1, 4),
    },
    optional={
        "InitialVariantWeight": st.floats(0, 100, width=32),
        "VolumeSizeInGB": st.integers(1, 512),
        "ModelDataDownloadTimeoutInSeconds": st.integers(60, 3600),
        "RoutingConfig": st.just({"RoutingStrategy": "RANDOM"}),
        "InferenceAmiVersion": st.just("al2-ami-sagemaker-inference-gpu-2"),
    },
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(containers, extras, st.lists(variants, min_size=1, max_size=3))
def test_responses_conform_to_their_shapes(
    sagemaker: Any, given_containers: Any, given_extras: Any, given_variants: Any
) -> None:
    name = f"shape-{next(_numbers)}"
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, **given_containers, **given_extras
    )
    named = [
        {"VariantName": f"v{number}", "ModelName": name, **variant}
        for number, variant in enumerate(given_variants)
    ]
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=named)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert_conforms("DescribeModel", sagemaker.describe_model(ModelName=name))
    config = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert_conforms("DescribeEndpointConfig", config)
    assert_conforms("DescribeEndpoint", sagemaker.describe_endpoint(EndpointName=name))
    listed = sagemaker.list_endpoints(NameContains=name, MaxResults=1)
    assert_conforms("ListEndpoints", listed)


def assert_conforms(operation: str, answer: dict[str, Any]) -> None:
    """Checks types, required members, limits and patterns, and that no member is empty."""
    shape = service_models.control_plane().operation_model(operation).output_shape
    members = {name: value for name, value in answer.items() if name != "ResponseMetadata"}
    report = ParamValidator().validate(members, shape)
    assert not report.has_errors(), report.generate_report()
    assert_nothing_empty(members)
    validate(shape, on_the_wire(members))


def assert_nothing_empty(value: Any) -> None:
    if isinstance(value, dict):
        assert value != {}
        for item in value.values():
            assert item is not None
            assert_nothing_empty(item)
    if isinstance(value, list):
        for item in value:
            assert_nothing_empty(item)


def on_the_wire(value: Any) -> Any:
    """Converts timestamps back to numbers, the form that `validate` expects."""
    match value:
        case dict():
            return {name: on_the_wire(item) for name, item in value.items()}
        case list():
            return [on_the_wire(item) for item in value]
        case _ if hasattr(value, "timestamp"):
            return value.timestamp()
        case _:
            return value
