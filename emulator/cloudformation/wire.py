"""The AWS query protocol: forms in, XML out, both by the shapes of the service model."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from botocore.model import OperationModel, Shape

from emulator.cloudformation.refusals import invalid
from emulator.refusal import Refused

NAMESPACE = "http://cloudformation.amazonaws.com/doc/2010-05-15/"

Form = Mapping[str, str]


def form(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


def members(shape: Shape, given: Form) -> dict[str, Any]:
    """What the form holds of a structure, unchecked but for numbers and booleans."""
    return _structure(shape, given, "")


def _read(shape: Shape, given: Form, path: str) -> Any:
    match shape.type_name:
        case "structure":
            return _structure(shape, given, f"{path}.")
        case "list":
            return _list(shape, given, path)
        case "integer":
            return _integer(given[path], path)
        case "boolean":
            return given[path].lower() == "true"
        case _:
            return given[path]


def _structure(shape: Shape, given: Form, prefix: str) -> dict[str, Any]:
    return {
        name: _read(member, given, prefix + name)
        for name, member in shape.members.items()
        if _holds(given, prefix + name)
    }


def _list(shape: Shape, given: Form, path: str) -> list[Any]:
    items: list[Any] = []
    while _holds(given, item := f"{path}.member.{len(items) + 1}"):
        items.append(_read(shape.member, given, item))
    return items


def _holds(given: Form, path: str) -> bool:
    return any(key == path or key.startswith(f"{path}.") for key in given)


def _integer(text: str, path: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise invalid(f"Value '{text}' at '{path}' is no integer.") from None


def answer(operation: OperationModel, value: dict[str, Any], request_id: str) -> bytes:
    root = ElementTree.Element(f"{operation.name}Response", xmlns=NAMESPACE)
    shape = operation.output_shape
    if shape is not None:
        _write(root, shape.serialization["resultWrapper"], shape, value)
    metadata = ElementTree.SubElement(root, "ResponseMetadata")
    ElementTree.SubElement(metadata, "RequestId").text = request_id
    return _bytes(root)


def refusal(refused: Refused, request_id: str) -> bytes:
    root = ElementTree.Element("ErrorResponse", xmlns=NAMESPACE)
    error = ElementTree.SubElement(root, "Error")
    said = {
        "Type": "Sender" if refused.status < 500 else "Receiver",
        "Code": refused.code,
        "Message": refused.message,
    }
    for name, text in said.items():
        ElementTree.SubElement(error, name).text = text
    ElementTree.SubElement(root, "RequestId").text = request_id
    return _bytes(root)


def _write(parent: ElementTree.Element, name: str, shape: Shape, value: Any) -> None:
    element = ElementTree.SubElement(parent, name)
    match shape.type_name:
        case "structure":
            for member, item in value.items():
                _write(element, member, shape.members[member], item)
        case "list":
            for item in value:
                _write(element, "member", shape.member, item)
        case "timestamp":
            moment = datetime.fromtimestamp(value, UTC)
            element.text = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "boolean":
            element.text = str(value).lower()
        case _:
            element.text = str(value)


def _bytes(root: ElementTree.Element) -> bytes:
    written: bytes = ElementTree.tostring(root, "utf-8")
    return written
