"""A stack on its way to a goal: resource after resource, and back again where one fails.

Whatever fails, the stack ends in a state at rest, and what was made for nothing is deleted.
"""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from emulator.cloudformation import functions, kinds
from emulator.cloudformation.calls import Calls
from emulator.cloudformation.functions import Identity, Scope
from emulator.cloudformation.kinds import Kind
from emulator.cloudformation.refusals import invalid
from emulator.cloudformation.stack import Goal, Resource, Stack, StackStatus
from emulator.cloudformation.template import Declaration
from emulator.refusal import Refused

log = logging.getLogger(__name__)

_LONGEST_NAME = 63
_RANDOM_BYTES = 6


class StepFailed(Exception):
    """One resource could not be made, changed or deleted; None stands for the outputs."""

    def __init__(self, resource: str | None, reason: str) -> None:
        super().__init__(reason)
        self.resource = resource

    def told(self, what: str) -> str:
        if self.resource is None:
            return str(self)
        return f"The following resource(s) {what}: [{self.resource}]."


@dataclass(frozen=True, slots=True)
class Step:
    """What was done: `before` is None where it was new, `after` has its identity where it was changed."""

    before: Resource | None
    after: Resource

    @property
    def in_place(self) -> bool:
        return self.before is not None and self.before.identity == self.after.identity


class Deployment:
    """Of one stack, once. Only one is under way for a stack at a time."""

    def __init__(self, stack: Stack, calls: Calls, known: Mapping[str, Kind]) -> None:
        self._stack = stack
        self._calls = calls
        self._kinds = known
        self._steps: list[Step] = []

    async def create(self) -> None:
        stack = self._stack
        try:
            await self._reach(stack.goal)
        except StepFailed as failure:
            reason = failure.told("failed to create")
            if stack.keeps_failure:
                stack.become(StackStatus.CREATE_FAILED, reason)
                return
            stack.become(StackStatus.ROLLBACK_IN_PROGRESS, f"{reason} Rollback requested by user.")
            await self._undo(StackStatus.ROLLBACK_COMPLETE, StackStatus.ROLLBACK_FAILED)
            return
        stack.become(StackStatus.CREATE_COMPLETE)

    async def update(self, goal: Goal) -> None:
        stack = self._stack
        try:
            await self._reach(goal)
        except StepFailed as failure:
            reason = failure.told("failed to update")
            stack.become(StackStatus.UPDATE_ROLLBACK_IN_PROGRESS, reason)
            await self._undo(
                StackStatus.UPDATE_ROLLBACK_COMPLETE, StackStatus.UPDATE_ROLLBACK_FAILED
            )
            return
        before, stack.goal = stack.goal, goal
        stack.become(StackStatus.UPDATE_COMPLETE_CLEANUP_IN_PROGRESS)
        await self._clean_up(before)
        stack.become(StackStatus.UPDATE_COMPLETE)

    async def delete(self) -> None:
        stack = self._stack
        try:
            for name in reversed(_in_order(stack.goal, stack.resources)):
                resource = stack.resources[name]
                await self._delete(resource, kept=resource.declaration.retained)
                del stack.resources[name]
        except StepFailed as failure:
            reason = failure.told("failed to delete")
            stack.become(StackStatus.DELETE_FAILED, reason)
            return
        stack.become(StackStatus.DELETE_COMPLETE)

    async def _reach(self, goal: Goal) -> None:
        made: dict[str, Identity] = {}
        scope = replace(self._stack.scope(goal), resources=made)
        for declaration in _wanted(goal, scope):
            made[declaration.name] = await self._step(declaration, scope)
        try:
            self._stack.outputs = _outputs(goal, scope)
        except Exception as error:  # a bug must not leave the stack in transition
            _log_bug(error, self._stack)
            raise StepFailed(None, _reason(error)) from error

    async def _step(self, declaration: Declaration, scope: Scope) -> Identity:
        """The resource as it is afterwards."""
        before = self._stack.resources.get(declaration.name)
        verb = "UPDATE" if before else "CREATE"
        try:
            properties = functions.resolved(declaration.properties, scope)
            kinds.check(declaration.type, properties)
            if before is None or self._replaces(before, declaration, properties):
                return (await self._make(declaration, properties, before, verb)).identity
            if before.properties != properties:
                await self._change(before, declaration, properties)
            else:
                kept = replace(before, declaration=declaration)
                self._stack.resources[declaration.name] = kept
            return before.identity
        except Exception as error:  # a bug must not leave the stack in transition
            self._failed(declaration, verb, error)

    def _replaces(
        self, before: Resource, declaration: Declaration, properties: dict[str, Any]
    ) -> bool:
        if before.declaration.type != declaration.type:
            return True
        return kinds.replaces(declaration.type, before.properties, properties)

    async def _make(
        self,
        declaration: Declaration,
        properties: dict[str, Any],
        before: Resource | None,
        verb: str,
    ) -> Resource:
        kind = self._kinds[declaration.type]
        _refuse_same_name(declaration, properties, before)
        self._stack.note(declaration, "", f"{verb}_IN_PROGRESS", _REPLACED if before else None)
        name = _generated(self._stack.name, declaration.name)
        identity = await kind.create(self._calls, name, properties)
        made = Resource(declaration, identity, properties, f"{verb}_IN_PROGRESS")
        self._record(Step(before, made))
        self._stack.note(
            declaration, identity.physical_id, made.status, "Resource creation Initiated"
        )
        await kind.settle(self._calls, identity, properties)
        return self._complete(made, verb)

    async def _change(
        self, before: Resource, declaration: Declaration, properties: dict[str, Any]
    ) -> None:
        changed = Resource(declaration, before.identity, properties, "UPDATE_IN_PROGRESS")
        self._record(Step(before, changed))
        self._stack.note(declaration, before.identity.physical_id, changed.status)
        await self._kinds[declaration.type].settle(self._calls, before.identity, properties)
        self._complete(changed, "UPDATE")

    def _record(self, step: Step) -> None:
        self._steps.append(step)
        self._stack.resources[step.after.declaration.name] = step.after

    def _complete(self, resource: Resource, verb: str) -> Resource:
        done = replace(resource, status=f"{verb}_COMPLETE")
        self._stack.resources[resource.declaration.name] = done
        self._stack.note(resource.declaration, resource.identity.physical_id, done.status)
        return done

    def _failed(self, declaration: Declaration, verb: str, error: Exception) -> NoReturn:
        resource = self._stack.resources.get(declaration.name)
        physical_id = resource.identity.physical_id if resource else ""
        _log_bug(error, self._stack)
        self._stack.note(declaration, physical_id, f"{verb}_FAILED", _reason(error))
        raise StepFailed(declaration.name, _reason(error)) from error

    async def _undo(self, undone: StackStatus, failed: StackStatus) -> None:
        """Every step back, the last first."""
        try:
            while self._steps:
                await self._undo_step(self._steps[-1])
                self._steps.pop()
        except StepFailed as failure:
            self._stack.become(failed, failure.told("could not be rolled back"))
            return
        self._stack.become(undone)

    async def _undo_step(self, step: Step) -> None:
        name = step.after.declaration.name
        if step.before is None:
            await self._delete(step.after, kept=False)
            del self._stack.resources[name]
        elif step.in_place:
            await self._restore(step.before)
        else:
            await self._delete(step.after, kept=False)
            self._stack.resources[name] = step.before

    async def _restore(self, before: Resource) -> None:
        kind = self._kinds[before.declaration.type]
        try:
            await kind.settle(self._calls, before.identity, before.properties)
        except Exception as error:  # a bug must not leave the stack in transition
            self._failed(before.declaration, "UPDATE", error)
        self._complete(before, "UPDATE")

    async def _clean_up(self, before: Goal) -> None:
        """Delete what the goal no longer has; what cannot go is left and told in the events."""
        stack = self._stack
        replaced = [s.before for s in self._steps if s.before is not None and not s.in_place]
        wanted = {d.name for d in _wanted(stack.goal, stack.scope(stack.goal))}
        dropped = [n for n in reversed(_in_order(before, stack.resources)) if n not in wanted]
        for name in dropped:
            resource = stack.resources.pop(name)
            await self._try_delete(resource, kept=resource.declaration.retained)
        for resource in reversed(replaced):
            await self._try_delete(resource, kept=resource.declaration.retained_when_replaced)

    async def _try_delete(self, resource: Resource, *, kept: bool) -> None:
        try:
            await self._delete(resource, kept=kept)
        except StepFailed:
            log.warning("left behind", extra={"resource": resource.identity.physical_id})

    async def _delete(self, resource: Resource, *, kept: bool) -> None:
        declaration, identity = resource.declaration, resource.identity
        if kept:
            self._stack.note(declaration, identity.physical_id, "DELETE_SKIPPED")
            return
        self._stack.note(declaration, identity.physical_id, "DELETE_IN_PROGRESS")
        try:
            await kinds.delete(self._kinds[declaration.type], self._calls, identity)
        except Exception as error:  # a bug must not leave the stack in transition
            self._failed(declaration, "DELETE", error)
        self._stack.note(declaration, identity.physical_id, "DELETE_COMPLETE")


_REPLACED = "Requested update requires the creation of a new physical resource; hence creating one."


def _wanted(goal: Goal, scope: Scope) -> list[Declaration]:
    return [
        declaration
        for declaration in goal.template.resources.values()
        if declaration.condition is None or scope.condition(declaration.condition)
    ]


def _in_order(goal: Goal, resources: Mapping[str, Resource]) -> list[str]:
    """Those that are there, as they would be made."""
    ordered = [name for name in goal.template.resources if name in resources]
    return ordered + [name for name in resources if name not in ordered]


def _outputs(goal: Goal, scope: Scope) -> list[dict[str, str]]:
    scope = replace(scope, block="Outputs")
    outputs = []
    for name, declared in goal.template.outputs.items():
        if "Condition" in declared and not scope.condition(declared["Condition"]):
            continue
        value = functions.text(functions.resolved(declared.get("Value"), scope))
        described = {"Description": declared["Description"]} if "Description" in declared else {}
        outputs.append({"OutputKey": name, "OutputValue": value, **described})
    return outputs


def _refuse_same_name(
    declaration: Declaration, properties: Mapping[str, Any], before: Resource | None
) -> None:
    """The old one is deleted last, so the new one cannot have its name."""
    key = _NAMES.get(declaration.type)
    if before is None or key is None or key not in properties:
        return
    if properties[key] == before.properties.get(key):
        raise invalid(
            "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
            f"Rename {properties[key]} and update the stack again."
        )


_NAMES = {
    "AWS::IAM::Role": "RoleName",
    "AWS::SageMaker::Endpoint": "EndpointName",
    "AWS::SageMaker::EndpointConfig": "EndpointConfigName",
    "AWS::SageMaker::Model": "ModelName",
}


def _generated(stack: str, logical_id: str) -> str:
    end = f"-{logical_id}-{secrets.token_hex(_RANDOM_BYTES)}"
    return stack[: _LONGEST_NAME - len(end)] + end


def _log_bug(error: Exception, stack: Stack) -> None:
    """What nobody has refused is a mistake of ours."""
    if not isinstance(error, Refused | ClientError | BotoCoreError):
        log.exception("stack failed", extra={"stack": stack.name})


def _reason(error: Exception) -> str:
    match error:
        case Refused():
            return error.message
        case ClientError():
            return str(error.response["Error"].get("Message") or error)
        case BotoCoreError():
            return str(error)
        case _:
            return "Internal failure of the local platform; see its log."
