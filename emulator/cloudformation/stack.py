"""One stack: its record, its states, its resources and what happened to them.

A stack in transition has a task that ends the transition; no change is taken meanwhile.
"""

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from emulator.account import ACCOUNT
from emulator.cloudformation import parameters
from emulator.cloudformation.functions import Identity, Scope
from emulator.cloudformation.template import Declaration, Template

STACK = "AWS::CloudFormation::Stack"


class StackStatus(StrEnum):
    REVIEW_IN_PROGRESS = "REVIEW_IN_PROGRESS"
    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_COMPLETE = "CREATE_COMPLETE"
    CREATE_FAILED = "CREATE_FAILED"
    ROLLBACK_IN_PROGRESS = "ROLLBACK_IN_PROGRESS"
    ROLLBACK_COMPLETE = "ROLLBACK_COMPLETE"
    ROLLBACK_FAILED = "ROLLBACK_FAILED"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_COMPLETE_CLEANUP_IN_PROGRESS = "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
    UPDATE_COMPLETE = "UPDATE_COMPLETE"
    UPDATE_ROLLBACK_IN_PROGRESS = "UPDATE_ROLLBACK_IN_PROGRESS"
    UPDATE_ROLLBACK_COMPLETE = "UPDATE_ROLLBACK_COMPLETE"
    UPDATE_ROLLBACK_FAILED = "UPDATE_ROLLBACK_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
    DELETE_COMPLETE = "DELETE_COMPLETE"
    DELETE_FAILED = "DELETE_FAILED"


S = StackStatus
_AT_REST = {S.DELETE_IN_PROGRESS}
_UPDATABLE = {S.UPDATE_IN_PROGRESS, S.DELETE_IN_PROGRESS}
_NEXT = {
    S.REVIEW_IN_PROGRESS: {S.CREATE_IN_PROGRESS, S.DELETE_IN_PROGRESS},
    S.CREATE_IN_PROGRESS: {S.CREATE_COMPLETE, S.CREATE_FAILED, S.ROLLBACK_IN_PROGRESS},
    S.CREATE_COMPLETE: _UPDATABLE,
    S.CREATE_FAILED: _AT_REST,
    S.ROLLBACK_IN_PROGRESS: {S.ROLLBACK_COMPLETE, S.ROLLBACK_FAILED},
    S.ROLLBACK_COMPLETE: _AT_REST,
    S.ROLLBACK_FAILED: _AT_REST,
    S.UPDATE_IN_PROGRESS: {S.UPDATE_COMPLETE_CLEANUP_IN_PROGRESS, S.UPDATE_ROLLBACK_IN_PROGRESS},
    S.UPDATE_COMPLETE_CLEANUP_IN_PROGRESS: {S.UPDATE_COMPLETE},
    S.UPDATE_COMPLETE: _UPDATABLE,
    S.UPDATE_ROLLBACK_IN_PROGRESS: {S.UPDATE_ROLLBACK_COMPLETE, S.UPDATE_ROLLBACK_FAILED},
    S.UPDATE_ROLLBACK_COMPLETE: _UPDATABLE,
    S.UPDATE_ROLLBACK_FAILED: _AT_REST,
    S.DELETE_IN_PROGRESS: {S.DELETE_COMPLETE, S.DELETE_FAILED},
    S.DELETE_FAILED: _AT_REST,
    S.DELETE_COMPLETE: set(),
}


@dataclass(frozen=True, slots=True)
class Goal:
    """What a stack shall be: a template and a text for each of its parameters."""

    template: Template
    parameters: Mapping[str, str]
    tags: tuple[Mapping[str, str], ...] = ()
    capabilities: tuple[str, ...] = ()

    def same(self, other: "Goal") -> bool:
        ours, theirs = self.template, other.template
        return (
            (ours.resources, ours.outputs, ours.conditions, ours.mappings)
            == (theirs.resources, theirs.outputs, theirs.conditions, theirs.mappings)
            and self.parameters == other.parameters
            and self.tags == other.tags
        )


@dataclass(frozen=True, slots=True)
class Resource:
    """As it was made, from which declaration and properties."""

    declaration: Declaration
    identity: Identity
    properties: Mapping[str, Any]
    status: str = ""
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Event:
    logical_id: str
    physical_id: str
    type: str
    status: str
    reason: str | None = None
    at: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(slots=True)
class Stack:
    name: str
    region: str
    goal: Goal
    keeps_failure: bool = False  # OnFailure=DO_NOTHING
    number: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: StackStatus = StackStatus.REVIEW_IN_PROGRESS
    reason: str | None = None
    created: float = field(default_factory=time.time)
    updated: float | None = None
    deleted: float | None = None
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: list[dict[str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    transition: asyncio.Task[None] | None = None

    @property
    def arn(self) -> str:
        return f"arn:aws:cloudformation:{self.region}:{ACCOUNT}:stack/{self.name}/{self.number}"

    @property
    def changing(self) -> bool:
        return self.status.endswith("_IN_PROGRESS") and self.status is not S.REVIEW_IN_PROGRESS

    @property
    def updatable(self) -> bool:
        return S.UPDATE_IN_PROGRESS in _NEXT[self.status]

    def become(self, status: StackStatus, reason: str | None = None) -> None:
        assert status in _NEXT[self.status], f"{self.status} → {status}"
        self.status = status
        self.reason = reason
        self.events.append(Event(self.name, self.arn, STACK, status, reason))

    def note(
        self, declaration: Declaration, physical_id: str, status: str, reason: str | None = None
    ) -> None:
        """An event of one resource."""
        event = Event(declaration.name, physical_id, declaration.type, status, reason)
        self.events.append(event)

    async def settled(self, patience_s: float) -> None:
        """Return when no transition is under way, or when patience ran out."""
        if self.transition is not None:
            await asyncio.wait([self.transition], timeout=patience_s)

    def scope(self, goal: Goal) -> Scope:
        """What is known before anything is made."""
        template = goal.template
        values = {
            **parameters.typed(template.parameters, goal.parameters),
            "AWS::AccountId": ACCOUNT,
            "AWS::Partition": "aws",
            "AWS::Region": self.region,
            "AWS::StackId": self.arn,
            "AWS::StackName": self.name,
            "AWS::URLSuffix": "amazonaws.com",
        }
        conditions = template.decided(Scope(values, template.mappings, block="Conditions"))
        return Scope(values, template.mappings, conditions)
