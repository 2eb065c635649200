"""The List operations: filters, order, pages."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.emulator.deployments import Deployment, ExpectError

COUNT = 5


@pytest.fixture(scope="module")
def names(sagemaker: Any) -> list[str]:
    """The names of five endpoints in order of creation; models and configurations have the same names."""
    deploy = Deployment(sagemaker)
    names = [f"listed-{letter}" for letter in "badce"]
    for name in names:
        deploy.endpoint(name)
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=name)
    return names


RESOURCE_TYPES = pytest.mark.parametrize(
    ("operation", "key"),
    [
        ("list_models", "Model"),
        ("list_endpoint_configs", "EndpointConfig"),
        ("list_endpoints", "Endpoint"),
    ],
)


class Listing:
    def __init__(self, sagemaker: Any, operation: str, key: str) -> None:
        self.call = getattr(sagemaker, operation)
        self.paginator = sagemaker.get_paginator(operation)
        self.key = key

    def names(self, **members: Any) -> list[str]:
        return self.of(self.call(NameContains="listed", **members))

    def of(self, answer: dict[str, Any]) -> list[str]:
        return [entry[f"{self.key}Name"] for entry in answer[f"{self.key}s"]]


@RESOURCE_TYPES
def test_order(sagemaker: Any, names: list[str], operation: str, key: str) -> None:
    listing = Listing(sagemaker, operation, key)
    assert listing.names() == names[::-1]
    assert listing.names(SortOrder="Ascending") == names
    assert listing.names(SortBy="Name") == sorted(names, reverse=True)
    assert listing.names(SortBy="Name", SortOrder="Ascending") == sorted(names)


@RESOURCE_TYPES
def test_filters(sagemaker: Any, names: list[str], operation: str, key: str) -> None:
    listing = Listing(sagemaker, operation, key)
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert listing.of(listing.call(NameContains="listed-B")) == ["listed-b"]
    assert listing.of(listing.call(NameContains="missing")) == []
    assert len(listing.names(CreationTimeAfter=now - hour)) == COUNT
    assert listing.names(CreationTimeAfter=now + hour) == []
    assert listing.names(CreationTimeBefore=now - hour) == []


@RESOURCE_TYPES
def test_pages_have_every_resource_once(
    sagemaker: Any, names: list[str], operation: str, key: str
) -> None:
    listing = Listing(sagemaker, operation, key)
    for order in ("Ascending", "Descending"):
        pages = listing.paginator.paginate(
            NameContains="listed", SortBy="Name", SortOrder=order, PaginationConfig={"PageSize": 2}
        )
        seen = [listing.of(page) for page in pages]
        assert [len(page) for page in seen] == [2, 2, 1]
        assert [name for page in seen for name in page] == sorted(
            names, reverse=order == "Descending"
        )


def test_a_page_continues_where_the_last_one_ended(
    deploy: Deployment, sagemaker: Any, name: str
) -> None:
    """Even if a resource of the previous page has been deleted."""
    for letter in "abc":
        deploy.model(f"{name}-page-{letter}")
    asked = {
        "NameContains": f"{name}-page",
        "SortBy": "Name",
        "SortOrder": "Ascending",
        "MaxResults": 1,
    }
    first = sagemaker.list_models(**asked)
    sagemaker.delete_model(ModelName=first["Models"][0]["ModelName"])
    second = sagemaker.list_models(**asked, NextToken=first["NextToken"])
    assert [model["ModelName"] for model in second["Models"]] == [f"{name}-page-b"]


def test_endpoints_by_status_and_modification(sagemaker: Any, names: list[str]) -> None:
    listing = Listing(sagemaker, "list_endpoints", "Endpoint")
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert len(listing.names(StatusEquals="InService", SortBy="Status")) == COUNT
    assert listing.names(StatusEquals="Failed") == []
    assert listing.names(LastModifiedTimeAfter=now + hour) == []
    assert len(listing.names(LastModifiedTimeBefore=now + hour)) == COUNT


@pytest.mark.parametrize("token", ["nonsense", "eyJhIjogMX0=", "WzEuMCwgIm4iXQ=="])
def test_a_token_of_another_listing_is_refused(
    refused: ExpectError, names: list[str], token: str
) -> None:
    message = refused("list_models", SortBy="Name", NextToken=token)
    assert message == "Invalid NextToken: it does not belong to this listing."
