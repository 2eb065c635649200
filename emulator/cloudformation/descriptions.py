"""What is told of templates and stacks."""

from collections.abc import Mapping
from typing import Any

from emulator.account import Caller
from emulator.cloudformation import template
from emulator.cloudformation.functions import text
from emulator.cloudformation.refusals import not_here
from emulator.cloudformation.stack import Goal, Resource, Stack, StackStatus
from emulator.cloudformation.stacks import KINDS, Stacks
from emulator.cloudformation.template import Template

Members = dict[str, Any]

# AWS sends events of this status, though its service model has no such value for them.
_UNLISTED = StackStatus.UPDATE_COMPLETE_CLEANUP_IN_PROGRESS


class Descriptions:
    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks

    async def stacks(self, _: Caller, members: Members) -> Members:
        if "StackName" in members:
            return {"Stacks": [_stack(await self._stacks.settled(members["StackName"]))]}
        there = [s for s in self._stacks.all() if s.status is not StackStatus.DELETE_COMPLETE]
        return {"Stacks": [_stack(stack) for stack in there]}

    async def listing(self, _: Caller, members: Members) -> Members:
        wanted = members.get("StackStatusFilter")
        stacks = [s for s in self._stacks.all() if not wanted or s.status in wanted]
        return {"StackSummaries": [_summary(stack) for stack in stacks]}

    async def events(self, _: Caller, members: Members) -> Members:
        stack = self._stacks.find(members["StackName"])
        events = [
            {
                "StackId": stack.arn,
                "EventId": event.id,
                "StackName": stack.name,
                "LogicalResourceId": event.logical_id,
                "PhysicalResourceId": event.physical_id,
                "ResourceType": event.type,
                "Timestamp": event.at,
                "ResourceStatus": event.status,
                "ResourceStatusReason": event.reason,
            }
            for event in reversed(stack.events)
            if event.status != _UNLISTED
        ]
        return {"StackEvents": events}

    async def resources(self, _: Caller, members: Members) -> Members:
        if "StackName" not in members:
            raise not_here("DescribeStackResources without a StackName")
        stack = self._stacks.find(members["StackName"])
        wanted = members.get("LogicalResourceId")
        return {
            "StackResources": [
                {
                    "StackName": stack.name,
                    "StackId": stack.arn,
                    "Timestamp": resource.at,
                    **_resource(resource),
                }
                for name, resource in stack.resources.items()
                if wanted in (None, name)
            ]
        }

    async def resource_listing(self, _: Caller, members: Members) -> Members:
        stack = self._stacks.find(members["StackName"])
        return {
            "StackResourceSummaries": [
                {**_resource(resource), "LastUpdatedTimestamp": resource.at}
                for resource in stack.resources.values()
            ]
        }

    async def template(self, _: Caller, members: Members) -> Members:
        goal = self._stacks.find(members.get("StackName", "")).goal
        return {"TemplateBody": goal.template.body, "StagesAvailable": ["Original", "Processed"]}

    async def validation(self, _: Caller, members: Members) -> Members:
        wanted = _given(members)
        return {
            "Description": wanted.description,
            "Capabilities": wanted.capabilities,
            "Parameters": [_declared(name, d) for name, d in wanted.parameters.items()],
        }

    async def template_summary(self, _: Caller, members: Members) -> Members:
        if "StackName" in members:
            wanted = self._stacks.find(members["StackName"]).goal.template
        else:
            wanted = _given(members)
        return {
            "Description": wanted.description,
            "Capabilities": wanted.capabilities,
            "ResourceTypes": sorted({d.type for d in wanted.resources.values()}),
            "Parameters": [
                {**_declared(name, declaration), "ParameterType": declaration["Type"]}
                for name, declaration in wanted.parameters.items()
            ],
        }


def _given(members: Members) -> Template:
    if "TemplateBody" not in members:
        raise not_here("A template other than in TemplateBody")
    return template.read(members["TemplateBody"], KINDS)


def parameters(goal: Goal) -> list[Members]:
    declared = goal.template.parameters
    return [
        {
            "ParameterKey": name,
            "ParameterValue": "****" if declared[name].get("NoEcho") else value,
        }
        for name, value in goal.parameters.items()
    ]


def _stack(stack: Stack) -> Members:
    return {
        "StackId": stack.arn,
        "StackName": stack.name,
        "Description": stack.goal.template.description,
        "Parameters": parameters(stack.goal),
        "CreationTime": stack.created,
        "LastUpdatedTime": stack.updated,
        "DeletionTime": stack.deleted,
        "StackStatus": stack.status.value,
        "StackStatusReason": stack.reason,
        "DisableRollback": stack.keeps_failure,
        "Capabilities": list(stack.goal.capabilities),
        "Outputs": stack.outputs,
        "Tags": [dict(tag) for tag in stack.goal.tags],
        "EnableTerminationProtection": False,
    }


def _summary(stack: Stack) -> Members:
    return {
        "StackId": stack.arn,
        "StackName": stack.name,
        "TemplateDescription": stack.goal.template.description,
        "CreationTime": stack.created,
        "LastUpdatedTime": stack.updated,
        "DeletionTime": stack.deleted,
        "StackStatus": stack.status.value,
        "StackStatusReason": stack.reason,
    }


def _resource(resource: Resource) -> Members:
    return {
        "LogicalResourceId": resource.declaration.name,
        "PhysicalResourceId": resource.identity.physical_id,
        "ResourceType": resource.declaration.type,
        "ResourceStatus": resource.status,
    }


def _declared(name: str, declaration: Mapping[str, Any]) -> Members:
    default = text(declaration["Default"]) if "Default" in declaration else None
    return {
        "ParameterKey": name,
        "DefaultValue": default,
        "NoEcho": bool(declaration.get("NoEcho", False)),
        "Description": declaration.get("Description"),
    }
