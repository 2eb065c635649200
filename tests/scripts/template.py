"""Renders the CloudFormation template: its parameters, its conditions and the functions that it uses."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from cfnlint.decode import decode_str

from tests.scripts.runs import SCRIPTS

STACK = "many-models"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mme:latest"

_NO_VALUE = object()
_PSEUDO_PARAMETERS = {
    "AWS::AccountId": "123456789012",
    "AWS::NoValue": _NO_VALUE,
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": STACK,
}
_VARIABLE = re.compile(r"\$\{([\w.:]+)\}")


class Template:
    """`attributes` has the values of `Ref` and, as "Resource.Attribute", of `Fn::GetAtt`."""

    def __init__(self, **parameters: str) -> None:
        text = (SCRIPTS / "cloudformation/endpoint.yaml").read_text(encoding="utf-8")
        self._template, _ = decode_str(text)
        given = {"Image": IMAGE, "ModelsBucket": "my-bucket", "InstanceCount": "1", **parameters}
        declared = self._template["Parameters"]
        assert given.keys() <= declared.keys(), given.keys() - declared.keys()
        self.attributes: dict[str, Any] = dict(_PSEUDO_PARAMETERS)
        for name, declaration in declared.items():
            value = str(given.get(name, declaration.get("Default")))
            _check(name, value, declaration)
            self.attributes[name] = int(value) if declaration["Type"] == "Number" else value

    def properties(self, resource: str) -> dict[str, Any] | None:
        """None if the condition of the resource is false."""
        declaration = self._template["Resources"][resource]
        if "Condition" in declaration and not self._condition(declaration["Condition"]):
            return None
        rendered: dict[str, Any] = self._rendered(declaration["Properties"])
        return rendered

    def output(self, name: str) -> Any:
        return self._rendered(self._template["Outputs"][name]["Value"])

    def _condition(self, name: str) -> bool:
        return bool(self._rendered(self._template["Conditions"][name]))

    def _rendered(self, node: Any) -> Any:
        match node:
            case {"Ref": name}:
                return self.attributes[name]
            case dict() if len(node) == 1 and next(iter(node)).startswith("Fn::"):
                ((function, argument),) = node.items()
                return self._functions[function](argument)
            case dict():
                members = ((key, self._rendered(item)) for key, item in node.items())
                return {str(key): item for key, item in members if item is not _NO_VALUE}
            case list():
                return [item for item in map(self._rendered, node) if item is not _NO_VALUE]
            case str():
                return str(node)
            case _:
                return node

    @property
    def _functions(self) -> Mapping[str, Callable[[Any], Any]]:
        return {
            "Fn::Equals": lambda pair: len({str(self._rendered(side)) for side in pair}) == 1,
            "Fn::FindInMap": self._find_in_map,
            "Fn::GetAtt": lambda path: self.attributes[".".join(path)],
            "Fn::If": lambda given: self._rendered(given[1 if self._condition(given[0]) else 2]),
            "Fn::Not": lambda given: not self._rendered(given[0]),
            "Fn::Or": lambda given: any(self._rendered(condition) for condition in given),
            "Fn::Select": lambda given: self._rendered(given[1])[given[0]],
            "Fn::Split": lambda given: self._rendered(given[1]).split(given[0]),
            "Fn::Sub": self._substituted,
        }

    def _find_in_map(self, path: list[Any]) -> Any:
        found: Any = self._template["Mappings"]
        for key in map(self._rendered, path):
            found = found[key]
        return found

    def _substituted(self, given: Any) -> str:
        text, local = (given, {}) if isinstance(given, str) else given
        known = self.attributes | {name: self._rendered(value) for name, value in local.items()}
        return _VARIABLE.sub(lambda found: str(known[found[1]]), text)


def _check(name: str, value: str, declaration: Mapping[str, Any]) -> None:
    """Raises ValueError if the value violates a constraint of the parameter's declaration."""
    broken = (
        not re.fullmatch(declaration.get("AllowedPattern", r"[\s\S]*"), value)
        or value not in declaration.get("AllowedValues", [value])
        or ("MinValue" in declaration and int(value) < declaration["MinValue"])
        or ("MaxValue" in declaration and int(value) > declaration["MaxValue"])
    )
    if broken:
        raise ValueError(f"{name}: {declaration.get('ConstraintDescription', value)}")
