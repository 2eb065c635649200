"""Change sets, which `aws cloudformation deploy` works with: a goal that waits for its execution."""

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from emulator.account import ACCOUNT, Caller
from emulator.cloudformation.descriptions import parameters
from emulator.cloudformation.refusals import not_here
from emulator.cloudformation.stack import Goal, Stack, StackStatus
from emulator.cloudformation.stacks import Stacks, refuse_kept_failure, refuse_unready
from emulator.refusal import Refused

Members = dict[str, Any]

_NO_CHANGES = (
    "The submitted information didn't contain changes. "
    "Submit different information to create a change set."
)


@dataclass(slots=True)
class ChangeSet:
    name: str
    stack: Stack
    goal: Goal
    refused: str | None
    executed: bool = False
    created: float = field(default_factory=time.time)
    number: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def arn(self) -> str:
        region = self.stack.region
        return f"arn:aws:cloudformation:{region}:{ACCOUNT}:changeSet/{self.name}/{self.number}"

    @property
    def execution(self) -> str:
        if self.refused:
            return "UNAVAILABLE"
        return "EXECUTE_COMPLETE" if self.executed else "AVAILABLE"


class ChangeSets:
    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self._sets: list[ChangeSet] = []

    async def create(self, caller: Caller, members: Members) -> Members:
        kind = members.get("ChangeSetType", "UPDATE")
        if kind == "CREATE":
            stack = self._reviewed(caller, members)
            goal = stack.goal
        elif kind == "UPDATE":
            stack = self._stacks.find(members["StackName"])
            goal = self._stacks.goal(members, stack.goal)
        else:
            raise not_here(f"ChangeSetType {kind}")
        same = kind == "UPDATE" and goal.same(stack.goal)
        change_set = ChangeSet(members["ChangeSetName"], stack, goal, _NO_CHANGES if same else None)
        self._sets.append(change_set)
        return {"Id": change_set.arn, "StackId": stack.arn}

    async def describe(self, _: Caller, members: Members) -> Members:
        found = self._find(members)
        return {
            "ChangeSetName": found.name,
            "ChangeSetId": found.arn,
            "StackId": found.stack.arn,
            "StackName": found.stack.name,
            "Parameters": parameters(found.goal),
            "CreationTime": found.created,
            "ExecutionStatus": found.execution,
            "Status": "FAILED" if found.refused else "CREATE_COMPLETE",
            "StatusReason": found.refused,
            "Capabilities": list(found.goal.capabilities),
            "Tags": [dict(tag) for tag in found.goal.tags],
            "Changes": _changes(found),
        }

    async def execute(self, _: Caller, members: Members) -> Members:
        refuse_kept_failure(members)
        found = self._find(members)
        if found.execution != "AVAILABLE":
            raise Refused(
                f"ChangeSet [{found.arn}] cannot be executed in its current execution status of "
                f"[{found.execution}]",
                "InvalidChangeSetStatus",
            )
        stack = found.stack
        if stack.status is StackStatus.REVIEW_IN_PROGRESS:
            self._stacks.start_creation(stack)
        else:
            refuse_unready(stack)
            self._stacks.start_update(stack, found.goal)
        found.executed = True
        return {}

    async def delete(self, _: Caller, members: Members) -> Members:
        self._sets.remove(self._find(members))
        return {}

    def _reviewed(self, caller: Caller, members: Members) -> Stack:
        return self._stacks.add(caller, members["StackName"], self._stacks.goal(members))

    def _find(self, members: Members) -> ChangeSet:
        wanted, stack = members["ChangeSetName"], members.get("StackName")
        for found in reversed(self._sets):
            of_stack = stack in (found.stack.name, found.stack.arn)
            if wanted == found.arn or (wanted == found.name and of_stack):
                return found
        raise Refused(f"ChangeSet [{wanted}] does not exist", "ChangeSetNotFound", 404)


def _changes(change_set: ChangeSet) -> list[Members]:
    """By declaration: what a changed parameter leads to shows when it is executed."""
    there = change_set.stack.resources
    wanted = change_set.goal.template.resources
    actions = {
        **{name: "Modify" if name in there else "Add" for name in wanted},
        **{name: "Remove" for name in there if name not in wanted},
    }
    types = {
        **{n: r.declaration.type for n, r in there.items()},
        **{n: d.type for n, d in wanted.items()},
    }
    return [
        {
            "Type": "Resource",
            "ResourceChange": {
                "Action": action,
                "LogicalResourceId": name,
                "ResourceType": types[name],
            },
        }
        for name, action in actions.items()
        if not change_set.refused
    ]
