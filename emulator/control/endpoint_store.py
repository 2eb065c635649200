"""CreateEndpoint, UpdateEndpoint, DescribeEndpoint, ListEndpoints, DeleteEndpoint and changes of capacity.

The calls return at once; a background task per endpoint performs the transition. DescribeEndpoint waits for
the end of a transition, because the SDKs' waiters poll every 30 seconds only: one poll is then enough.
"""

import logging
from collections.abc import Awaitable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from emulator.account import Caller
from emulator.background_tasks import BackgroundTasks
from emulator.control.endpoint_config_store import EndpointConfigStore
from emulator.control.endpoint_state import Endpoint, EndpointStatus
from emulator.control.errors import ApiError
from emulator.control.resource_store import ResourceStore, within
from emulator.control.tag_store import TagStore, check_duplicate_keys
from emulator.control.validation import Members
from emulator.interfaces import DeploymentFailed, Hosting
from emulator.records import VariantSpec

log = logging.getLogger(__name__)


class EndpointStore:
    """`describe_wait_s`: how long DescribeEndpoint waits; must be below the clients' read timeout."""

    def __init__(
        self, hosting: Hosting, configs: EndpointConfigStore, tags: TagStore, describe_wait_s: float
    ) -> None:
        self._hosting = hosting
        self._configs = configs
        self._tags = tags
        self._describe_wait_s = describe_wait_s
        self._resources: ResourceStore[Endpoint] = ResourceStore("endpoint", "endpoint")
        self._transitions = BackgroundTasks()

    def serving(self, name: str) -> bool:
        endpoint = self._resources.get(name)
        return endpoint is not None and endpoint.serving

    async def close(self) -> None:
        """Cancels the transitions in progress. The hosting side stops the containers."""
        await self._transitions.cancel()

    async def create(self, caller: Caller, members: Members) -> Members:
        tags = members.get("Tags", [])
        check_duplicate_keys(tags)
        name = members["EndpointName"]
        self._resources.check_unused(name)
        deployment = _deployment_config(members)
        config = self._configs.find(caller, members["EndpointConfigName"])
        variants = self._configs.variants(caller, config)
        endpoint = Endpoint(name, caller.arn("endpoint", name), config.name, variants, deployment)
        self._resources.add(endpoint)
        self._tags.attach(endpoint.arn, tags)
        self._start(endpoint, self._create(endpoint))
        return {"EndpointArn": endpoint.arn}

    async def update(self, caller: Caller, members: Members) -> Members:
        endpoint = self._find_idle(caller, members["EndpointName"])
        _check_not_failed(endpoint)
        deployment = _deployment_config(members)
        config = self._configs.find(caller, members["EndpointConfigName"])
        if config.name == endpoint.config_name:
            raise ApiError(
                f'Endpoint "{endpoint.arn}" already uses endpoint configuration "{config.arn}": '
                "create a new one to update it."
            )
        variants = self._configs.variants(caller, config)
        if members.get("RetainAllVariantProperties"):
            variants = self._with_retained_properties(endpoint, variants, members)
        if not members.get("RetainDeploymentConfig"):
            endpoint.deployment = deployment
        endpoint.set_status(EndpointStatus.UPDATING)
        self._start(endpoint, self._update(endpoint, config.name, variants))
        return {"EndpointArn": endpoint.arn}

    async def scale(self, caller: Caller, members: Members) -> Members:
        endpoint = self._find_idle(caller, members["EndpointName"])
        _check_not_failed(endpoint)
        changes = members["DesiredWeightsAndCapacities"]
        known = {status.name for status in self._hosting.status(endpoint.name)}
        for change in changes:
            if change["VariantName"] not in known:
                raise ApiError(
                    f'Could not find variant "{change["VariantName"]}" of endpoint "{endpoint.arn}".'
                )
        endpoint.set_status(EndpointStatus.UPDATING)
        self._start(endpoint, self._scale(endpoint, changes))
        return {"EndpointArn": endpoint.arn}

    async def describe(self, caller: Caller, members: Members) -> Members:
        name = members["EndpointName"]
        await self._resources.find(caller, name).wait_for_transition(self._describe_wait_s)
        endpoint = self._resources.find(caller, name)
        return {
            "EndpointName": endpoint.name,
            "EndpointArn": endpoint.arn,
            "EndpointConfigName": endpoint.config_name,
            "ProductionVariants": self._variant_summaries(endpoint) or None,
            "EndpointStatus": endpoint.status.value,
            "FailureReason": endpoint.failure_reason,
            "CreationTime": endpoint.created,
            "LastModifiedTime": endpoint.modified,
            "LastDeploymentConfig": endpoint.deployment,
        }

    async def listing(self, _: Caller, members: Members) -> Members:
        status = members.get("StatusEquals")

        def keep(endpoint: Endpoint) -> bool:
            status_matches = status in (None, endpoint.status.value)
            return status_matches and within(endpoint.modified, members, "LastModifiedTime")

        page, token = self._resources.page(members, keep, {"Status": lambda e: e.status.value})
        return {"Endpoints": [_summary(endpoint) for endpoint in page], "NextToken": token}

    async def delete(self, caller: Caller, members: Members) -> Members:
        endpoint = self._find_idle(caller, members["EndpointName"])
        endpoint.set_status(EndpointStatus.DELETING)
        self._start(endpoint, self._delete(caller, endpoint))
        return {}

    def _find_idle(self, caller: Caller, name: str) -> Endpoint:
        endpoint = self._resources.find(caller, name)
        if endpoint.in_transition:
            raise ApiError(f'Cannot update in-progress endpoint "{endpoint.arn}".')
        return endpoint

    def _start(self, endpoint: Endpoint, work: Coroutine[Any, Any, None]) -> None:
        endpoint.transition = self._transitions.start(work)

    async def _create(self, endpoint: Endpoint) -> None:
        failure = await _failure_reason(self._hosting.create(endpoint.name, endpoint.variants))
        endpoint.hosted = failure is None
        endpoint.set_status(
            EndpointStatus.FAILED if failure else EndpointStatus.IN_SERVICE, failure
        )

    async def _update(
        self, endpoint: Endpoint, config_name: str, variants: tuple[VariantSpec, ...]
    ) -> None:
        """Update the endpoint. After a failure it stays in service with its previous configuration."""
        failure = await _failure_reason(self._hosting.update(endpoint.name, variants))
        if not failure:
            endpoint.config_name, endpoint.variants = config_name, variants
        endpoint.set_status(EndpointStatus.IN_SERVICE, failure)

    async def _scale(self, endpoint: Endpoint, changes: Iterable[Members]) -> None:
        weights = {c["VariantName"]: c["DesiredWeight"] for c in changes if "DesiredWeight" in c}
        counts = {
            c["VariantName"]: c["DesiredInstanceCount"]
            for c in changes
            if "DesiredInstanceCount" in c
        }
        failure = await _failure_reason(self._hosting.scale(endpoint.name, weights, counts))
        endpoint.set_status(EndpointStatus.IN_SERVICE, failure)

    async def _delete(self, caller: Caller, endpoint: Endpoint) -> None:
        failure = (
            await _failure_reason(self._hosting.delete(endpoint.name)) if endpoint.hosted else None
        )
        if failure:
            endpoint.set_status(EndpointStatus.FAILED, failure)
            return
        self._resources.remove(caller, endpoint.name)
        self._tags.drop(endpoint.arn)

    def _with_retained_properties(
        self, endpoint: Endpoint, variants: tuple[VariantSpec, ...], members: Members
    ) -> tuple[VariantSpec, ...]:
        """The new variants, with the current weights and counts of the variants of the same name."""
        excluded = {
            entry["VariantPropertyType"]
            for entry in members.get("ExcludeRetainedVariantProperties", [])
        }
        current = {status.name: status for status in self._hosting.status(endpoint.name)}
        retained = []
        for variant in variants:
            if variant.name in current and "DesiredWeight" not in excluded:
                variant = replace(variant, weight=current[variant.name].desired_weight)
            if variant.name in current and "DesiredInstanceCount" not in excluded:
                variant = replace(variant, instance_count=current[variant.name].desired_count)
            retained.append(variant)
        return tuple(retained)

    def _variant_summaries(self, endpoint: Endpoint) -> list[Members]:
        if not endpoint.serving:
            return []
        images = {
            variant.name: [
                {"SpecifiedImage": container.image, "ResolvedImage": container.image}
                for container in variant.model.containers
            ]
            for variant in endpoint.variants
        }
        return [
            {
                "VariantName": status.name,
                "DeployedImages": images.get(status.name),
                "CurrentWeight": status.current_weight,
                "DesiredWeight": status.desired_weight,
                "CurrentInstanceCount": status.current_count,
                "DesiredInstanceCount": status.desired_count,
            }
            for status in self._hosting.status(endpoint.name)
        ]


async def _failure_reason(work: Awaitable[None]) -> str | None:
    """Returns the FailureReason, None after success."""
    try:
        await work
    except DeploymentFailed as failure:
        return str(failure) or "The deployment failed."
    # Any other exception is a bug of the platform; the endpoint must not stay in transition.
    except Exception:
        log.exception("transition failed")
        return "Request to service failed: internal error of the local platform; see its log."
    return None


def _check_not_failed(endpoint: Endpoint) -> None:
    if endpoint.status is EndpointStatus.FAILED:
        raise ApiError(
            f'Cannot update endpoint "{endpoint.arn}" in status Failed: it can only be deleted.'
        )


def _deployment_config(members: Members) -> dict[str, object] | None:
    """The DeploymentConfig of the call. Raises ApiError for anything but ALL_AT_ONCE."""
    deployment: dict[str, Any] | None = members.get("DeploymentConfig")
    if deployment is None:
        return None
    routing = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    if "RollingUpdatePolicy" in deployment or routing.get("Type", "ALL_AT_ONCE") != "ALL_AT_ONCE":
        raise ApiError(
            "Deployment guardrails are not available for multi-model endpoints: "
            "BlueGreenUpdatePolicy with ALL_AT_ONCE is the one DeploymentConfig."
        )
    return deployment


def _summary(endpoint: Endpoint) -> Members:
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "EndpointStatus": endpoint.status.value,
    }
