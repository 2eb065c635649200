"""AWS's own service models as botocore carries them: the one source of shapes and limits."""

from functools import cache

from botocore.loaders import Loader
from botocore.model import ServiceModel


@cache
def control_plane() -> ServiceModel:
    return _load("sagemaker")


@cache
def runtime() -> ServiceModel:
    return _load("sagemaker-runtime")


def _load(name: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)
