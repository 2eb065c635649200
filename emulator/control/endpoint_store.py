"""CreateEndpoint and its siblings: answers at once, while a task of the endpoint does the work.

DescribeEndpoint of an endpoint in transition waits a while for its end, so that the SDKs' waiters,
which sleep half a minute between two looks, return on their first one.
"""

import logging
from collections.abc import Awaitable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from emulator.account import Caller
from emulator.background_tasks import Transitions
from emulator.control.endpoint_config_store import EndpointConfigStore
from emulator.control.endpoint_state import Endpoint, EndpointStatus
from emulator.control.errors import ApiError
from emulator.control.resource_store import ResourceStore, within
from emulator.control.tag_store import TagStore, check_duplicate_keys
from emulator.interfaces import DeploymentFailed, Hosting
from emulator.records import VariantSpec

Members = dict[str, Any]

log = logging.getLogger(__name__)


class EndpointStore:
    """`patience_s`: how long a Describe waits for a transition; below any client's read timeout."""

    def __init__(
        self, hosting: Hosting, configs: EndpointConfigStore, tags: TagStore, patience_s: float
    ) -> None:
        self._hosting = hosting
        self._configs = configs
        self._tags = tags
        self._patience_s = patience_s
        self._resources: ResourceStore[Endpoint] = ResourceStore("endpoint", "endpoint")
        self._transitions = Transitions()

    def serving(self, name: str) -> bool:
        endpoint = self._resources.get(name)
        return endpoint is not None and endpoint.serving

    async def close(self) -> None:
        """End what is under way; running containers are the hosting's to stop."""
        await self._transitions.close()

    async def create(self, caller: Caller, members: Members) -> Members:
        tags = members.get("Tags", [])
        check_duplicate_keys(tags)
        name = members["EndpointName"]
        self._resources.check_unused(name)
        deployment = _plain_deployment(members)
        config = self._configs.find(caller, members["EndpointConfigName"])
        variants = self._configs.variants(caller, config)
        endpoint = Endpoint(name, caller.arn("endpoint", name), config.name, variants, deployment)
        self._resources.add(endpoint)
        self._tags.attach(endpoint.arn, tags)
        self._start(endpoint, self._bring_up(endpoint))
        return {"EndpointArn": endpoint.arn}

    async def update(self, caller: Caller, members: Members) -> Members:
        endpoint = self._idle(caller, members["EndpointName"])
        _refuse_failed(endpoint)
        deployment = _plain_deployment(members)
        config = self._configs.find(caller, members["EndpointConfigName"])
        if config.name == endpoint.config_name:
            raise ApiError(
                f'Endpoint "{endpoint.arn}" already uses endpoint configuration "{config.arn}": '
                "create a new one to update it."
            )
        variants = self._configs.variants(caller, config)
        if members.get("RetainAllVariantProperties"):
            variants = self._retained(endpoint, variants, members)
        if not members.get("RetainDeploymentConfig"):
            endpoint.deployment = deployment
        endpoint.become(EndpointStatus.UPDATING)
        self._start(endpoint, self._move(endpoint, config.name, variants))
        return {"EndpointArn": endpoint.arn}

    async def scale(self, caller: Caller, members: Members) -> Members:
        endpoint = self._idle(caller, members["EndpointName"])
        _refuse_failed(endpoint)
        wishes = members["DesiredWeightsAndCapacities"]
        known = {status.name for status in self._hosting.status(endpoint.name)}
        for wish in wishes:
            if wish["VariantName"] not in known:
                raise ApiError(
                    f'Could not find variant "{wish["VariantName"]}" of endpoint "{endpoint.arn}".'
                )
        endpoint.become(EndpointStatus.UPDATING)
        self._start(endpoint, self._scale(endpoint, wishes))
        return {"EndpointArn": endpoint.arn}

    async def describe(self, caller: Caller, members: Members) -> Members:
        name = members["EndpointName"]
        await self._resources.find(caller, name).settled(self._patience_s)
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
        wanted = members.get("StatusEquals")

        def keep(endpoint: Endpoint) -> bool:
            status_fits = wanted in (None, endpoint.status.value)
            return status_fits and within(endpoint.modified, members, "LastModifiedTime")

        page, token = self._resources.page(members, keep, {"Status": lambda e: e.status.value})
        return {"Endpoints": [_summary(endpoint) for endpoint in page], "NextToken": token}

    async def delete(self, caller: Caller, members: Members) -> Members:
        endpoint = self._idle(caller, members["EndpointName"])
        endpoint.become(EndpointStatus.DELETING)
        self._start(endpoint, self._take_down(caller, endpoint))
        return {}

    def _idle(self, caller: Caller, name: str) -> Endpoint:
        endpoint = self._resources.find(caller, name)
        if endpoint.changing:
            raise ApiError(f'Cannot update in-progress endpoint "{endpoint.arn}".')
        return endpoint

    def _start(self, endpoint: Endpoint, work: Coroutine[Any, Any, None]) -> None:
        endpoint.transition = self._transitions.start(work)

    async def _bring_up(self, endpoint: Endpoint) -> None:
        failure = await _failure(self._hosting.create(endpoint.name, endpoint.variants))
        endpoint.hosted = failure is None
        endpoint.become(EndpointStatus.FAILED if failure else EndpointStatus.IN_SERVICE, failure)

    async def _move(
        self, endpoint: Endpoint, config_name: str, variants: tuple[VariantSpec, ...]
    ) -> None:
        """To another configuration; a failure leaves the endpoint in service as it was."""
        failure = await _failure(self._hosting.update(endpoint.name, variants))
        if not failure:
            endpoint.config_name, endpoint.variants = config_name, variants
        endpoint.become(EndpointStatus.IN_SERVICE, failure)

    async def _scale(self, endpoint: Endpoint, wishes: Iterable[Members]) -> None:
        weights = {w["VariantName"]: w["DesiredWeight"] for w in wishes if "DesiredWeight" in w}
        counts = {
            w["VariantName"]: w["DesiredInstanceCount"]
            for w in wishes
            if "DesiredInstanceCount" in w
        }
        failure = await _failure(self._hosting.scale(endpoint.name, weights, counts))
        endpoint.become(EndpointStatus.IN_SERVICE, failure)

    async def _take_down(self, caller: Caller, endpoint: Endpoint) -> None:
        failure = await _failure(self._hosting.delete(endpoint.name)) if endpoint.hosted else None
        if failure:
            endpoint.become(EndpointStatus.FAILED, failure)
            return
        self._resources.remove(caller, endpoint.name)
        self._tags.drop(endpoint.arn)

    def _retained(
        self, endpoint: Endpoint, variants: tuple[VariantSpec, ...], members: Members
    ) -> tuple[VariantSpec, ...]:
        """The new variants with the weights and counts that those of the same name have now."""
        excluded = {
            entry["VariantPropertyType"]
            for entry in members.get("ExcludeRetainedVariantProperties", [])
        }
        now = {status.name: status for status in self._hosting.status(endpoint.name)}
        retained = []
        for variant in variants:
            if variant.name in now and "DesiredWeight" not in excluded:
                variant = replace(variant, weight=now[variant.name].desired_weight)
            if variant.name in now and "DesiredInstanceCount" not in excluded:
                variant = replace(variant, instance_count=now[variant.name].desired_count)
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


async def _failure(work: Awaitable[None]) -> str | None:
    """Why the work failed, if it did."""
    try:
        await work
    except DeploymentFailed as failure:
        return str(failure) or "The deployment failed."
    # Whatever else goes wrong is a bug of the platform; the endpoint must not hang in transition.
    except Exception:
        log.exception("transition failed")
        return "Request to service failed: internal error of the local platform; see its log."
    return None


def _refuse_failed(endpoint: Endpoint) -> None:
    if endpoint.status is EndpointStatus.FAILED:
        raise ApiError(
            f'Cannot update endpoint "{endpoint.arn}" in status Failed: it can only be deleted.'
        )


def _plain_deployment(members: Members) -> dict[str, object] | None:
    """The DeploymentConfig, where it asks for no more than all traffic at once."""
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
