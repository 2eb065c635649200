"""The parsed graphs of a TorchScript program: their operators, and the types of the attributes they read.

TorchScript's interpreter takes the types in its code for granted: an attribute of another class than declared
would be read outside its memory.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.jit._recursive import wrap_cpp_module

from model_handler.checks import guards, operators
from model_handler.checks.pickles import DeviceName, Object, Tagged, TensorView
from model_handler.errors import ModelLoadFailed

# torch copies the graph of each function into its callers
_MAX_NODES = 1_000_000
_CONSTANTS = frozenset(
    f"{name}Type"
    for name in (
        "Tensor", "Int", "Float", "Bool", "String", "None", "DeviceObj", "Number", "Complex", "Function",
        "List", "Tuple", "Dict", "Enum", "Layout", "ScalarType", "MemoryFormat",
    )
)  # fmt: skip
# The interpreter checks the type of these values whenever it uses one
_CHECKED = _CONSTANTS - {"ListType", "TupleType", "DictType", "EnumType", "FunctionType"}
_PLAIN = {
    "IntType": int, "BoolType": bool, "FloatType": float, "StringType": str, "NoneType": type(None),
    "TensorType": TensorView, "DeviceObjType": DeviceName,
}  # fmt: skip

Attributes = dict[tuple[str, str], Any]  # the types that the code reads, by class and attribute


def check(unit: Any, objects: Iterable[Object], title: str) -> list[tuple[Any, Any]]:
    """`unit`: the compilation unit with all code. `objects`: all of the file. Raises ModelLoadFailed.

    Returns the nodes whose arguments may have to be checked at each call, with their graphs.
    """
    guarded: list[tuple[Any, Any]] = []
    read: Attributes = {}
    calls: dict[str, tuple[int, list[str]]] = {}  # by function: its own nodes, and what it calls
    for function in unit.get_functions():
        graph = function.graph
        nodes = list(_nodes(graph))
        guarded += [(graph, node) for node in nodes if _check_node(node, read, title)]
        calls[function.qualified_name] = len(nodes), [*filter(None, map(_callee, nodes))]
    _check_size(calls, title)
    by_class: dict[str, list[tuple[str, Any]]] = {}
    for (kind, name), declared in read.items():
        by_class.setdefault(kind, []).append((name, declared))
    for each in objects:
        for name, declared in by_class.get(each.kind, ()):
            if each.state is None or not _fits(each.state.get(name), declared):
                raise ModelLoadFailed(
                    f"{title}: attribute {name} of {each.kind} is not {declared.annotation_str}"
                )
    return guarded


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _check_node(node: Any, read: Attributes, title: str) -> bool:
    """Returns whether its arguments may have to be checked at each call."""
    operator = node.kind()
    if not operators.is_allowed(operator):
        raise _refused(operator, title)
    if operator == "prim::GetAttr":
        owner = next(node.inputs()).type()
        read[owner.qualified_name(), node.s("name")] = next(node.outputs()).type()
    elif operator.startswith("aten::"):
        _check_overload(node, operator, title)
        return guards.concerns(operator)
    elif (reason := _misuse(node)) is not None:
        raise _refused(reason, title)
    return False


def _misuse(node: Any) -> str | None:
    """What makes an operator of the language itself unsafe, or None."""
    match node.kind():
        case "prim::Constant":
            kind = next(node.outputs()).type().kind()
            if kind not in _CONSTANTS and not _is_absent(node):
                return f"a constant of type {kind}"
        case "prim::unchecked_cast":
            if not _is_safe_cast(next(node.inputs()).type(), next(node.outputs()).type()):
                return "an unchecked cast between classes"
        case "prim::CallMethod" | "prim::CreateObject" | "prim::Enter" | "prim::Exit":
            owner = (next(node.inputs()) if node.inputsSize() else next(node.outputs())).type()
            if owner.kind() != "ClassType" or ".torch.classes." in owner.qualified_name():
                return f"{owner.annotation_str}, an interface or native class"
    return None


def _is_absent(node: Any) -> bool:
    """A constant of an optional type whose value is None."""
    return next(node.outputs()).type().kind() == "OptionalType" and not node.hasAttributes()


def _check_overload(node: Any, operator: str, title: str) -> None:
    if node.inputsSize() in _argument_counts_with_output(operator):
        arguments = node.schema().rpartition("->")[0]
        if "!" in arguments.partition("*,")[2]:  # resizes the tensor that it writes to
            raise _refused(f"{operator} with out=", title)
    if operator == "aten::view" and "dtype" in node.schema().partition("->")[0]:
        raise _refused("aten::view with another dtype", title)
    if operator == "aten::to" and guards.copies_without_type(node):
        raise _refused("aten::to that copies to no type", title)
    for_tensors = operator.rstrip("_") in operators.FOR_TENSORS
    if for_tensors and next(node.inputs()).type().kind() != "TensorType":
        raise _refused(f"{operator} of a list", title)


@functools.cache
def _argument_counts_with_output(operator: str) -> frozenset[int]:
    """The numbers of arguments of the overloads that write to an argument by keyword."""
    schemas = torch._C._jit_get_schemas_for_operator(operator)
    writes = [each for each in schemas if "!" in str(each).rpartition("->")[0].partition("*,")[2]]
    return frozenset(len(each.arguments) for each in writes)


def _is_safe_cast(given: Any, wanted: Any) -> bool:
    if wanted.kind() in _CHECKED:
        return True
    if given.kind() != "OptionalType":
        return bool(given.isSubtypeOf(wanted))
    return bool(given.getElementType().isSubtypeOf(wanted))


def _callee(node: Any) -> str:
    match node.kind():
        case "prim::CallMethod":
            return f"{next(node.inputs()).type().qualified_name()}.{node.s('name')}"
        case "prim::Enter" | "prim::Exit":
            method = f"__{node.kind().removeprefix('prim::').lower()}__"
            return f"{next(node.inputs()).type().qualified_name()}.{method}"
        case "prim::CallFunction":
            return str(next(node.inputs()).type())
    return ""


def _check_size(calls: Mapping[str, tuple[int, list[str]]], title: str) -> None:
    """The number of nodes after each call is replaced by what it calls. Functions cannot be recursive."""
    sizes: dict[str, int] = {}
    waiting = list(calls)
    while waiting:
        name = waiting[-1]
        own, called = calls.get(name, (0, []))
        missing = [each for each in called if each not in sizes]
        if missing and len(waiting) > len(calls) * 50 + 1000:
            raise ModelLoadFailed(f"{title} has functions that call each other")
        if missing:
            waiting += missing
            continue
        sizes[waiting.pop()] = size = own + sum(sizes[each] for each in called)
        if size > _MAX_NODES:
            raise ModelLoadFailed(f"{title} has more than {_MAX_NODES} operations in one call")


def _fits(value: Any, declared: Any) -> bool:
    """Whether a value of the file has the type that the code declares."""
    kind = declared.kind()
    if kind == "ClassType":
        return isinstance(value, Object) and value.kind == declared.qualified_name()
    if kind == "OptionalType":
        return value is None or _fits(value, declared.getElementType())
    if kind in ("ListType", "TupleType", "DictType"):
        return _all_within_fit(value.values if isinstance(value, Tagged) else value, declared)
    return kind in _PLAIN and type(value) is _PLAIN[kind]


def _all_within_fit(value: Any, declared: Any) -> bool:
    match declared.kind(), value:
        case "ListType", list():
            element = declared.getElementType()
            return all(_fits(each, element) for each in value)
        case "TupleType", tuple():
            return _all_fit(value, declared.elements())
        case "DictType", dict():
            key, element = declared.getKeyType(), declared.getValueType()
            return all(_fits(each, key) and _fits(value[each], element) for each in value)
    return False


def _all_fit(given: tuple[Any, ...], declared: Any) -> bool:
    return len(given) == len(declared) and all(map(_fits, given, declared))


def _refused(what: str, title: str) -> ModelLoadFailed:
    return ModelLoadFailed(
        f"{title} uses {what}, which is not allowed in a process shared with other models: export the model"
        " without it, or set option.isolation=own in serving.properties to run it in a process of its own"
    )


def load(path: Path, device: torch.device, objects: Iterable[Object]) -> Any:
    """Open an archive with these objects. Raises ModelLoadFailed before any of its code runs.

    The archive must have been checked: torch calls its `__setstate__`, and trusts its tensors' sizes.
    """
    torch_c: Any = torch._C  # its type stubs lack arguments and results
    unit = torch_c.CompilationUnit()
    module = torch_c.import_ir_module(unit, str(path), device, {}, False)
    for graph, node in check(unit, objects, path.name):
        guards.insert(graph, node)
    return wrap_cpp_module(module)  # type: ignore[no-untyped-call]
