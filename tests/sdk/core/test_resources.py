"""sagemaker-core, the basis of SDK 3.x: its resource classes and its waiters."""

import json
from pathlib import Path

import boto3
import pytest
from sagemaker.core.resources import Endpoint, EndpointConfig, Model
from sagemaker.core.shapes import ContainerDefinition, ProductionVariant

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/many-models:1"
ROLE = "arn:aws:iam::123456789012:role/execution"


def test_create_wait_invoke_list_delete(platform: str, archives: Path) -> None:
    s3 = boto3.client("s3")
    s3.upload_file(str(archives / "sentiment.tar.gz"), platform, "core/a/sentiment.tar.gz")
    container = ContainerDefinition(
        image=IMAGE,
        mode="MultiModel",
        model_data_url=f"s3://{platform}/core/",
        environment={"MME_DEVICE": "cpu"},
    )
    model = Model.create(model_name="core", primary_container=container, execution_role_arn=ROLE)
    variant = ProductionVariant(
        variant_name="AllTraffic",
        model_name="core",
        instance_type="ml.m5.xlarge",
        initial_instance_count=1,
    )
    config = EndpointConfig.create(endpoint_config_name="core", production_variants=[variant])
    endpoint = Endpoint.create(endpoint_name="core", endpoint_config_name="core")
    endpoint.wait_for_status("InService")
    answer = endpoint.invoke(
        body=json.dumps({"inputs": "I love this little camera."}),
        content_type="application/json",
        target_model="a/sentiment.tar.gz",
    )
    assert json.loads(answer.body.read())[0]["label"] == "POSITIVE"
    assert Endpoint.get("core").endpoint_status == "InService"
    assert [each.endpoint_name for each in Endpoint.get_all()] == ["core"]
    assert [each.model_name for each in Model.get_all()] == ["core"]
    endpoint.delete()
    endpoint.wait_for_delete()
    config.delete()
    model.delete()
    assert list(EndpointConfig.get_all()) == []
    with pytest.raises(Exception, match="core"):
        Endpoint.get("core")
