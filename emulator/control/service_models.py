"""AWS's service models as botocore ships them: the source of request shapes, limits and patterns."""

from functools import cache

from botocore.loaders import Loader
from botocore.model import ServiceModel


def control_plane() -> ServiceModel:
    return _load("sagemaker")


def runtime() -> ServiceModel:
    return _load("sagemaker-runtime")


@cache
def _load(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)
