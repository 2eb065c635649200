"""The SageMaker Python SDK 2.x: `MultiDataModel` as its documentation uses it."""

from pathlib import Path

import boto3
import pytest
from sagemaker.deserializers import JSONDeserializer
from sagemaker.model import Model
from sagemaker.multidatamodel import MultiDataModel
from sagemaker.predictor import Predictor
from sagemaker.serializers import JSONSerializer
from sagemaker.session import Session

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/many-models:1"
ROLE = "arn:aws:iam::123456789012:role/execution"


def test_deploy_add_list_predict_delete(platform: str, archives: Path) -> None:
    session = Session(default_bucket=platform)
    model = Model(image_uri=IMAGE, role=ROLE, env={"MME_DEVICE": "cpu"}, sagemaker_session=session)
    many = MultiDataModel(
        name="five",
        model_data_prefix=f"s3://{platform}/five/",
        model=model,
        sagemaker_session=session,
    )
    many.add_model(str(archives / "sentiment.tar.gz"), "texts/sentiment.tar.gz")
    many.deploy(
        initial_instance_count=1, instance_type="ml.m5.xlarge", endpoint_name="five", wait=False
    )
    session.wait_for_endpoint("five", poll=1)  # the SDK's own wait begins with a sleep of 30 s
    predictor = Predictor(
        "five", session, serializer=JSONSerializer(), deserializer=JSONDeserializer()
    )
    (answer,) = predictor.predict(
        {"inputs": "I love this little camera."}, target_model="texts/sentiment.tar.gz"
    )
    assert answer["label"] == "POSITIVE"

    many.add_model(str(archives / "news_topics.tar.gz"))  # while the endpoint is in service
    assert sorted(many.list_models()) == ["news_topics.tar.gz", "texts/sentiment.tar.gz"]
    (answer,) = predictor.predict(
        {"inputs": "Stocks fell after the central bank raised rates."},
        target_model="news_topics.tar.gz",
    )
    assert answer["label"] == "Business"

    with pytest.raises(Exception, match=r"nowhere\.tar\.gz"):
        predictor.predict({"inputs": "x"}, target_model="nowhere.tar.gz")
    predictor.delete_endpoint()
    many.delete_model()
    sagemaker = boto3.client("sagemaker")
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="five")
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert sagemaker.list_models()["Models"] == []
