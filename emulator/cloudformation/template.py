"""A template as it was written, checked for what this platform can do before anything is made.

YAML with its short tags and JSON are read by cfn-lint.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from cfnlint.decode import cfn_yaml
from yaml import YAMLError

from emulator.cloudformation import functions, parameters
from emulator.cloudformation.functions import NO_VALUE, Scope
from emulator.cloudformation.refusals import invalid, not_here

PSEUDO_PARAMETERS = (
    "AWS::AccountId",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
)
_SECTIONS = (
    "AWSTemplateFormatVersion",
    "Conditions",
    "Description",
    "Mappings",
    "Metadata",
    "Outputs",
    "Parameters",
    "Resources",
)
_ATTRIBUTES = (
    "Condition",
    "DeletionPolicy",
    "DependsOn",
    "Metadata",
    "Properties",
    "Type",
    "UpdateReplacePolicy",
)
_NAMED_IAM = "CAPABILITY_NAMED_IAM"


@dataclass(frozen=True, slots=True)
class Declaration:
    """One resource. `needs`: the names of those that have to be there first."""

    name: str
    type: str
    properties: dict[str, Any]
    condition: str | None
    needs: frozenset[str]
    retained: bool
    retained_when_replaced: bool


@dataclass(frozen=True, slots=True)
class Template:
    """`resources` are in the order in which they can be made."""

    body: str
    description: str | None
    parameters: Mapping[str, parameters.Declaration]
    mappings: Mapping[str, Any]
    conditions: Mapping[str, Any]
    resources: Mapping[str, Declaration]
    outputs: Mapping[str, Mapping[str, Any]]

    @property
    def capabilities(self) -> list[str]:
        """What the caller has to acknowledge."""
        iam = [d for d in self.resources.values() if d.type.startswith("AWS::IAM::")]
        if any("RoleName" in declaration.properties for declaration in iam):
            return [_NAMED_IAM]
        return ["CAPABILITY_IAM"] if iam else []

    def decided(self, scope: Scope) -> dict[str, bool]:
        """Every condition, those that others rest on first."""
        order = _ordered(
            {name: set(functions.named_conditions(c)) for name, c in self.conditions.items()},
            "conditions",
        )
        known: dict[str, bool] = {}
        for name in order:
            inner = Scope(scope.values, self.mappings, known, block="Conditions")
            known[name] = bool(functions.resolved(self.conditions[name], inner))
        return known


def read(body: str, types: Iterable[str]) -> Template:
    """`types`: the resource types there are. Raises Refused."""
    document = _document(body)
    if unknown := [str(key) for key in document if key not in _SECTIONS]:
        raise not_here(f"Section {', '.join(unknown)} of a template")
    if missing := functions.unknown_functions(document):
        raise not_here(f"Function {', '.join(sorted(missing))}")
    template = Template(
        body=body,
        description=document.get("Description"),
        parameters=_section(document, "Parameters"),
        mappings=_section(document, "Mappings"),
        conditions=_section(document, "Conditions"),
        resources=_resources(_section(document, "Resources")),
        outputs=_section(document, "Outputs"),
    )
    _check(template, types)
    return template


def _document(body: str) -> dict[str, Any]:
    try:
        document = _plain(cfn_yaml.loads(body))
    except YAMLError as error:
        raise invalid(f"Template format error: YAML not well-formed. {error}") from None
    # cfn-lint's own error has no common base with the parser's.
    except cfn_yaml.CfnParseError as error:
        raise invalid(f"Template format error: {error}") from None
    if not isinstance(document, dict):
        raise invalid("Template format error: unsupported structure.")
    return document


def _plain(node: Any) -> Any:
    """Without the marks of where it stood in the file."""
    match node:
        case dict():
            return {str(key): _plain(item) for key, item in node.items()}
        case list():
            return [_plain(item) for item in node]
        case str():
            return str(node)
        case _:
            return node


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name, {})
    if not isinstance(section, dict) or not all(
        isinstance(entry, dict) for entry in section.values()
    ):
        raise invalid(f"Template format error: {name} must be a map of maps.")
    return section


def _resources(section: dict[str, Any]) -> dict[str, Declaration]:
    if not section:
        raise invalid("Template format error: At least one Resources member must be defined.")
    declared = {name: _declaration(name, entry, section) for name, entry in section.items()}
    order = _ordered({name: set(d.needs) for name, d in declared.items()}, "resources")
    return {name: declared[name] for name in order}


def _declaration(name: str, entry: dict[str, Any], section: Iterable[str]) -> Declaration:
    if unknown := [key for key in entry if key not in _ATTRIBUTES]:
        raise not_here(f"Attribute {', '.join(unknown)} of resource {name}")
    properties = entry.get("Properties", {})
    depends = entry.get("DependsOn", [])
    named = {depends} if isinstance(depends, str) else set(depends)
    if missing := sorted(named - set(section)):
        raise functions.unresolved(missing, "Resources")
    return Declaration(
        name=name,
        type=str(entry.get("Type")),
        properties=properties,
        condition=entry.get("Condition"),
        needs=frozenset(named | (set(functions.references(properties)) & set(section))),
        retained=entry.get("DeletionPolicy", "Delete") != "Delete",
        retained_when_replaced=entry.get("UpdateReplacePolicy", "Delete") != "Delete",
    )


def _ordered(needs: dict[str, set[str]], noun: str) -> list[str]:
    try:
        return [name for name in TopologicalSorter(needs).static_order() if name in needs]
    except CycleError as error:
        raise invalid(f"Circular dependency between {noun}: [{', '.join(error.args[1])}]") from None


def _check(template: Template, types: Iterable[str]) -> None:
    known = sorted(types)
    wanted = {declaration.type for declaration in template.resources.values()}
    if unknown := sorted(wanted.difference(known)):
        raise invalid(
            f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]. "
            f"Available here: {', '.join(known)}"
        )
    for name, declaration in template.parameters.items():
        parameters.check_declaration(name, declaration)
    _check_references(template)
    _check_conditions(template)


def _check_references(template: Template) -> None:
    plain = {*template.parameters, *PSEUDO_PARAMETERS, NO_VALUE}
    blocks = {
        "Conditions": (template.conditions, plain),
        "Resources": (_properties(template), plain | {*template.resources}),
        "Outputs": (template.outputs, plain | {*template.resources}),
    }
    for block, (expressions, known) in blocks.items():
        if missing := sorted(set(functions.references(list(expressions.values()))) - known):
            raise functions.unresolved(missing, block)


def _check_conditions(template: Template) -> None:
    named = set(
        functions.named_conditions([template.conditions, _properties(template), template.outputs])
    )
    named |= {r.condition for r in template.resources.values() if r.condition}
    if missing := sorted(named - set(template.conditions)):
        raise invalid(
            f"Template format error: Unresolved condition dependency {', '.join(missing)}"
        )


def _properties(template: Template) -> dict[str, Any]:
    return {name: declaration.properties for name, declaration in template.resources.items()}
