"""Checks of the container definitions in CreateModel, and their conversion to ContainerSpecs."""

import re

from emulator.control.errors import ApiError
from emulator.control.validation import Members
from emulator.records import ContainerSpec

_MULTI_MODEL = "MultiModel"

_PREFIX = re.compile(r"s3://[^/]+(/.*)?|https://(s3[^/]*|[^/]+\.s3[^/]*)\.amazonaws\.com[^/]*/.+")
_ARCHIVES = (".tar.gz", ".tgz")


def container_specs(members: Members) -> tuple[ContainerSpec, ...]:
    """Raises ApiError where SageMaker refuses the definitions."""
    definitions = _definitions(members)
    for definition in definitions:
        _check(definition)
    _check_pipeline(definitions)
    _check_execution(members, definitions)
    return tuple(_spec(definition) for definition in definitions)


def _definitions(members: Members) -> list[Members]:
    """The definitions in a CreateModel call: one primary container, or the containers of a pipeline."""
    primary, pipeline = members.get("PrimaryContainer"), members.get("Containers")
    if primary and pipeline:
        raise ApiError("Specify either PrimaryContainer or Containers, not both.")
    if primary:
        return [primary]
    if not pipeline:
        raise ApiError("Specify a PrimaryContainer or at least one of Containers.")
    return list(pipeline)


def _is_multi_model(definition: Members) -> bool:
    return definition.get("Mode") == _MULTI_MODEL


def _check(definition: Members) -> None:
    if "ModelPackageName" in definition or "InferenceSpecificationName" in definition:
        raise ApiError("Model packages are not available here: name the Image itself.")
    if "Image" not in definition:
        raise ApiError("A container definition needs an Image.")
    if _is_multi_model(definition):
        _check_multi_model(definition)
    elif "ModelDataSource" in definition:
        raise ApiError("ModelDataSource is not available here: use ModelDataUrl.")
    elif "MultiModelConfig" in definition:
        raise ApiError("MultiModelConfig can be given only with Mode MultiModel.")


def _check_multi_model(definition: Members) -> None:
    for member in ("ModelDataSource", "AdditionalModelDataSources"):
        if member in definition:
            raise ApiError(f"{member} is not supported with MultiModel mode: use ModelDataUrl.")
    url = definition.get("ModelDataUrl")
    if not url:
        raise ApiError("MultiModel mode needs a ModelDataUrl: the S3 prefix of the models.")
    if not _PREFIX.fullmatch(url):
        raise ApiError(f"ModelDataUrl {url} is no S3 prefix such as s3://bucket/prefix/.")
    if url.endswith(_ARCHIVES):
        raise ApiError(
            f"ModelDataUrl {url} is one archive; MultiModel mode needs the prefix that holds them, "
            "such as s3://bucket/prefix/."
        )


def _check_pipeline(definitions: list[Members]) -> None:
    if sum(map(_is_multi_model, definitions)) > 1:
        raise ApiError(
            "More than one container in MultiModel mode is not supported with inference pipeline."
        )
    names = [d["ContainerHostname"] for d in definitions if "ContainerHostname" in d]
    if len(definitions) > 1 and len(names) not in (0, len(definitions)):
        raise ApiError("Give a ContainerHostname to all containers of a pipeline or to none.")
    if len(set(names)) < len(names):
        raise ApiError("ContainerHostname must be unique among the containers of a model.")


def _check_execution(members: Members, definitions: list[Members]) -> None:
    if members.get("InferenceExecutionConfig", {}).get("Mode") != "Direct":
        return
    if any(map(_is_multi_model, definitions)):
        raise ApiError("Direct inference execution is not supported with MultiModel mode.")
    raise ApiError("Direct inference execution is not available here: pipelines are serial.")


def _spec(definition: Members) -> ContainerSpec:
    cache = definition.get("MultiModelConfig", {}).get("ModelCacheSetting", "Enabled")
    return ContainerSpec(
        image=definition["Image"],
        multi_model=_is_multi_model(definition),
        model_data_url=definition.get("ModelDataUrl"),
        environment=definition.get("Environment", {}),
        cache_models=cache == "Enabled",
        hostname=definition.get("ContainerHostname"),
    )
