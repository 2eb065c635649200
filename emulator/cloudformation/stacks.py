"""CreateStack and its siblings: answers at once, while a task of the stack does the work.

DescribeStacks of a stack in transition waits a while for its end, so that boto3's waiters, which sleep half
a minute between two looks, return on their first one.
"""

import logging
import time
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any

from emulator.account import Caller
from emulator.cloudformation import parameters, template
from emulator.cloudformation.calls import Calls
from emulator.cloudformation.deployment import Deployment
from emulator.cloudformation.hosting_kinds import HOSTING_KINDS
from emulator.cloudformation.kinds import Kind
from emulator.cloudformation.refusals import invalid, not_here
from emulator.cloudformation.role_kind import Role
from emulator.cloudformation.scaling_kinds import ScalableTarget, ScalingPolicy
from emulator.cloudformation.stack import Goal, Stack, StackStatus
from emulator.cloudformation.template import Template
from emulator.refusal import Refused
from emulator.transitions import Transitions

Members = dict[str, Any]

log = logging.getLogger(__name__)

KINDS: dict[str, Kind] = {
    kind.type: kind for kind in (*HOSTING_KINDS, Role(), ScalableTarget(), ScalingPolicy())
}
_NOT_HERE = (
    "DeletionMode",
    "DeploymentConfig",
    "DeploymentMode",
    "EnableTerminationProtection",
    "ImportExistingResources",
    "NotificationARNs",
    "OnStackFailure",
    "ResourceTypes",
    "ResourcesToImport",
    "RetainExceptOnCreate",
    "RetainResources",
    "RoleARN",
    "RollbackConfiguration",
    "StackPolicyBody",
    "StackPolicyDuringUpdateBody",
    "StackPolicyDuringUpdateURL",
    "StackPolicyURL",
    "TemplateURL",
    "TimeoutInMinutes",
)


class Stacks:
    """`calls`: for the region of a caller. `patience_s`: how long a Describe waits for a transition."""

    def __init__(self, calls: Callable[[str], Calls], patience_s: float) -> None:
        self._calls = cache(calls)
        self._patience_s = patience_s
        self._stacks: list[Stack] = []
        self._transitions = Transitions()

    def all(self) -> list[Stack]:
        return list(self._stacks)

    def find(self, name: str) -> Stack:
        """By name, or by id also where it is deleted."""
        for stack in reversed(self._stacks):
            there = stack.status is not StackStatus.DELETE_COMPLETE
            if name == stack.arn or (name == stack.name and there):
                return stack
        raise invalid(f"Stack with id {name} does not exist")

    async def settled(self, name: str) -> Stack:
        """When it is at rest, or patience ran out. One that is deleted meanwhile is found no more."""
        await self.find(name).settled(self._patience_s)
        return self.find(name)

    async def close(self) -> None:
        """End what is under way where it stands."""
        await self._transitions.close()

    async def create(self, caller: Caller, members: Members) -> Members:
        goal = self.goal(members)
        stack = self.add(caller, members["StackName"], goal)
        stack.keeps_failure = _keeps_failure(members)
        self.start_creation(stack)
        return {"StackId": stack.arn}

    async def update(self, _: Caller, members: Members) -> Members:
        refuse_kept_failure(members)
        stack = self.find(members["StackName"])
        refuse_unready(stack)
        goal = self.goal(members, stack.goal)
        if goal.same(stack.goal):
            raise invalid("No updates are to be performed.")
        self.start_update(stack, goal)
        return {"StackId": stack.arn}

    async def delete(self, _: Caller, members: Members) -> Members:
        """Also of what is not there, as on AWS."""
        _refuse_unavailable(members)
        try:
            stack = self.find(members["StackName"])
        except Refused:
            return {}
        if stack.status in (StackStatus.DELETE_COMPLETE, StackStatus.DELETE_IN_PROGRESS):
            return {}
        if stack.changing:
            raise invalid(f"Stack [{stack.name}] cannot be deleted while in status {stack.status}")
        stack.become(StackStatus.DELETE_IN_PROGRESS)
        stack.deleted = time.time()
        self._start(stack, self._deployment(stack).delete())
        return {}

    def goal(self, members: Members, before: Goal | None = None) -> Goal:
        """What the members ask for. Raises Refused before anything is made."""
        _refuse_unavailable(members)
        wanted = self._template(members, before)
        acknowledged = tuple(members.get("Capabilities", ()))
        _check_capabilities(wanted, acknowledged)
        texts = parameters.chosen(
            wanted.parameters, members.get("Parameters", []), before.parameters if before else {}
        )
        tags = tuple(members.get("Tags", before.tags if before else ()))
        if before and tags != before.tags:
            raise not_here("A change of a stack's Tags")
        return Goal(wanted, texts, tags, acknowledged)

    def add(self, caller: Caller, name: str, goal: Goal) -> Stack:
        """In review. Raises Refused where there is one of the name."""
        if any(
            s.name == name and s.status is not StackStatus.DELETE_COMPLETE for s in self._stacks
        ):
            raise Refused(f"Stack [{name}] already exists", "AlreadyExistsException")
        stack = Stack(name, caller.region, goal)
        stack.scope(goal)
        self._stacks.append(stack)
        return stack

    def start_creation(self, stack: Stack) -> None:
        stack.become(StackStatus.CREATE_IN_PROGRESS, "User Initiated")
        self._start(stack, self._deployment(stack).create())

    def start_update(self, stack: Stack, goal: Goal) -> None:
        stack.scope(goal)
        stack.become(StackStatus.UPDATE_IN_PROGRESS, "User Initiated")
        stack.updated = time.time()
        self._start(stack, self._deployment(stack).update(goal))

    def _template(self, members: Members, before: Goal | None) -> Template:
        if "TemplateBody" in members:
            return template.read(members["TemplateBody"], KINDS)
        if before and members.get("UsePreviousTemplate"):
            return before.template
        raise invalid("Either Template URL or Template Body must be specified.")

    def _deployment(self, stack: Stack) -> Deployment:
        return Deployment(stack, self._calls(stack.region), KINDS)

    def _start(self, stack: Stack, work: Coroutine[Any, Any, None]) -> None:
        stack.transition = self._transitions.start(work)


def refuse_kept_failure(members: Members) -> None:
    """Of anything but a creation."""
    if members.get("DisableRollback"):
        raise not_here("DisableRollback of an update or a change set")


def refuse_unready(stack: Stack) -> None:
    if not stack.updatable:
        raise invalid(f"Stack:{stack.arn} is in {stack.status} state and can not be updated.")


def _refuse_unavailable(members: Members) -> None:
    for member in _NOT_HERE:
        if members.get(member):
            raise not_here(member)


def _keeps_failure(members: Members) -> bool:
    wanted = members.get(
        "OnFailure", "DO_NOTHING" if members.get("DisableRollback") else "ROLLBACK"
    )
    if wanted not in ("DO_NOTHING", "ROLLBACK"):
        raise not_here(f"OnFailure {wanted}")
    return bool(wanted == "DO_NOTHING")


def _check_capabilities(wanted: Template, acknowledged: tuple[str, ...]) -> None:
    enough = {
        *acknowledged,
        *(["CAPABILITY_IAM"] if "CAPABILITY_NAMED_IAM" in acknowledged else []),
    }
    if missing := [c for c in wanted.capabilities if c not in enough]:
        raise Refused(
            f"Requires capabilities : [{', '.join(missing)}]", "InsufficientCapabilitiesException"
        )
