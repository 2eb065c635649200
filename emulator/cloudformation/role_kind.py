"""AWS::IAM::Role with its inline and managed policies."""

import json
from dataclasses import dataclass
from typing import Any

from emulator.cloudformation.calls import Calls
from emulator.cloudformation.functions import Identity
from emulator.cloudformation.kinds import Properties, coerced

_SERVICE = "iam"
_POLICIES = ("Policies", "ManagedPolicyArns")


@dataclass(frozen=True, slots=True)
class Role:
    type: str = "AWS::IAM::Role"

    async def create(self, calls: Calls, name: str, properties: Properties) -> Identity:
        given = {key: item for key, item in properties.items() if key not in _POLICIES}
        trust = json.dumps(properties["AssumeRolePolicyDocument"])
        members = coerced(
            calls.operation(_SERVICE, "CreateRole").input_shape,
            {"RoleName": name, **given, "AssumeRolePolicyDocument": trust},
        )
        role = (await calls(_SERVICE, "CreateRole", **members))["Role"]
        return Identity(role["RoleName"], {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    async def settle(self, calls: Calls, made: Identity, properties: Properties) -> None:
        name = made.physical_id
        trust = json.dumps(properties["AssumeRolePolicyDocument"])
        await calls(_SERVICE, "UpdateAssumeRolePolicy", RoleName=name, PolicyDocument=trust)
        described = {
            k: properties[k] for k in ("Description", "MaxSessionDuration") if k in properties
        }
        shape = calls.operation(_SERVICE, "UpdateRole").input_shape
        await calls(_SERVICE, "UpdateRole", **coerced(shape, {"RoleName": name, **described}))
        await _inline(calls, name, properties.get("Policies", []))
        await _managed(calls, name, properties.get("ManagedPolicyArns", []))

    async def delete(self, calls: Calls, made: Identity) -> None:
        await _inline(calls, made.physical_id, [])
        await _managed(calls, made.physical_id, [])
        await calls(_SERVICE, "DeleteRole", RoleName=made.physical_id)


async def _inline(calls: Calls, role: str, policies: list[dict[str, Any]]) -> None:
    """These and no others."""
    wanted = {policy["PolicyName"]: json.dumps(policy["PolicyDocument"]) for policy in policies}
    there = (await calls(_SERVICE, "ListRolePolicies", RoleName=role))["PolicyNames"]
    for name in set(there) - wanted.keys():
        await calls(_SERVICE, "DeleteRolePolicy", RoleName=role, PolicyName=name)
    for name, document in wanted.items():
        await calls(
            _SERVICE, "PutRolePolicy", RoleName=role, PolicyName=name, PolicyDocument=document
        )


async def _managed(calls: Calls, role: str, wanted: list[str]) -> None:
    """These and no others."""
    listed = await calls(_SERVICE, "ListAttachedRolePolicies", RoleName=role)
    there = {policy["PolicyArn"] for policy in listed["AttachedPolicies"]}
    for arn in there - set(wanted):
        await calls(_SERVICE, "DetachRolePolicy", RoleName=role, PolicyArn=arn)
    for arn in set(wanted) - there:
        await calls(_SERVICE, "AttachRolePolicy", RoleName=role, PolicyArn=arn)
