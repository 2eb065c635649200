"""Checks of arguments at each call, for operators that trust them.

- aten::lstm: oneDNN, which computes it on CPUs, reads by the sizes of the input and the state, whatever the
  weights' are.
- recurrent networks of packed sequences follow the batch sizes that they are given.
- aten::_weight_norm: reads as many norms as the weights have rows or columns.
- numbers that stand for a data type, a layout or a memory format are used as indices of tables.

A check is an operator of its own, inserted before the one that it protects.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

_GATES = 4
_NAMESPACE = "model_handler"
# The arguments of both forms of aten::lstm, in their order; those without a name are not checked
_PADDED = (
    "input", "state", "weights", "has_biases", "num_layers", "_", "_", "bidirectional", "batch_first",
)  # fmt: skip
_PACKED = (
    "input", "batch_sizes", "state", "weights", "has_biases", "num_layers", "_", "_", "bidirectional",
)  # fmt: skip
# Values of torch's enumerations, by the name of the argument: the dtypes from uint8 to bool, and bfloat16
_NUMBERS = {
    "dtype": (*range(12), 15),
    "layout": (0,),
    "memory_format": (0, 1, 2, 3),
}
_FROM_TENSORS = ("prim::dtype", "prim::layout")


def concerns(operator: str) -> bool:
    """Whether `insert` may have something to do for nodes of this operator."""
    return operator in _GUARDS or bool(_numbers(operator))


def copies_without_type(node: Any) -> bool:
    """The forms of aten::to for an optional type use it unchecked if they copy."""
    schema = node.schema()
    if not schema.startswith("aten::to.prim_"):
        return False
    copy = list(node.inputs())[-1].node()
    return bool(copy.kind() != "prim::Constant" or copy.i("value") != 0)


def insert(graph: Any, node: Any) -> None:
    """Insert the checks that a node needs into a graph that did not run yet."""
    operator = node.kind()
    if operator in _GUARDS:
        _GUARDS[operator](graph, node)
    for position, name in _numbers(operator).get(_schema(node, operator), ()):
        value = node.inputsAt(position)
        if not _is_known(value, _NUMBERS[name]):
            kind = _constant(graph, node, name)
            _replace(graph, node, position, "checked_number", [value, kind])


def _schema(node: Any, operator: str) -> str:
    return node.schema() if _numbers(operator) else ""


@functools.cache
def _numbers(operator: str) -> Mapping[str, list[tuple[int, str]]]:
    """The positions of arguments that are enumerations, for each overload that has some."""
    if not operator.startswith("aten::"):
        return {}
    found = {}
    for schema in torch._C._jit_get_schemas_for_operator(operator):
        names = enumerate(argument.name for argument in schema.arguments)
        if positions := [(index, name) for index, name in names if name in _NUMBERS]:
            found[str(schema)] = positions
    return found


def _is_known(value: Any, allowed: Sequence[int]) -> bool:
    """Whether a value is a constant that is allowed, or comes from a tensor."""
    node = value.node()
    if node.kind() != "prim::Constant":
        return node.kind() in _FROM_TENSORS
    return not node.hasAttribute("value") or (
        node.kindOf("value") == "i" and node.i("value") in allowed
    )


def _guard_lstm(graph: Any, node: Any) -> None:
    inputs = list(node.inputs())
    is_packed = inputs[1].type().kind() == "TensorType"
    names = _PACKED if is_packed else _PADDED
    given = dict(zip(names, inputs, strict=True))
    order = "input", "state", "weights", "has_biases", "num_layers", "bidirectional"
    arguments = [given[name] for name in order]
    arguments.append(given.get("batch_first") or _constant(graph, node, False))
    arguments.append(given.get("batch_sizes") or _constant(graph, node, None))
    _replace(graph, node, names.index("state"), "checked_state", arguments)


def _guard_recurrent(graph: Any, node: Any) -> None:
    data, batch_sizes, state, *_ = node.inputs()
    if (
        state.type().kind() == "TensorType"
    ):  # otherwise it is the weights: the sequence is not packed
        _replace(graph, node, 2, "checked_rows", [data, batch_sizes, state])


def _guard_weight_norm(graph: Any, node: Any) -> None:
    _replace(graph, node, 0, "checked_norm", list(node.inputs()))


_GUARDS: dict[str, Callable[[Any, Any], None]] = {
    "aten::gru": _guard_recurrent,
    "aten::lstm": _guard_lstm,
    "aten::rnn_relu": _guard_recurrent,
    "aten::rnn_tanh": _guard_recurrent,
    "aten::_weight_norm": _guard_weight_norm,
}


def _replace(graph: Any, node: Any, position: int, operator: str, arguments: list[Any]) -> None:
    """Give the node, in place of an input, the result of a check, which returns it unchanged."""
    _define()
    check = graph.create(f"{_NAMESPACE}::{operator}", arguments, 1)
    check.insertBefore(node)
    check.output().setType(node.inputsAt(position).type())
    node.replaceInput(position, check.output())


def _constant(graph: Any, node: Any, value: object) -> Any:
    constant = graph.insertConstant(value)
    constant.node().moveBefore(node)
    return constant


@functools.cache
def _define() -> Any:
    """Returns the library, which is kept: its operators end with it."""
    library: Any = torch.library.Library(_NAMESPACE, "DEF")  # type: ignore[no-untyped-call]
    for schema, check in (
        (
            (
                "checked_state(Tensor input, Tensor[] state, Tensor[] weights, bool has_biases,"
                " int num_layers, bool bidirectional, bool batch_first, Tensor? batch_sizes) -> Tensor[]"
            ),
            _checked_state,
        ),
        ("checked_rows(Tensor input, Tensor batch_sizes, Tensor state) -> Tensor", _checked_rows),
        ("checked_norm(Tensor weights, Tensor norms, int dim) -> Tensor", _checked_norm),
        ("checked_number(int? number, str kind) -> int?", _checked_number),
    ):
        library.define(schema)
        library.impl(schema.partition("(")[0], check, "CompositeExplicitAutograd")
    return library


def _checked_number(number: int | None, kind: str) -> int | None:
    if number is not None and number not in _NUMBERS[kind]:
        raise RuntimeError(f"expected a {kind}, not {number}")
    return number


def _checked_rows(
    data: torch.Tensor, batch_sizes: torch.Tensor, state: torch.Tensor
) -> torch.Tensor:
    rows = _rows(data, batch_sizes, batch_first=False)
    _require(state.dim() == 3 and state.size(1) == rows, f"a state for {rows} sequences")
    return state


def _checked_norm(weights: torch.Tensor, norms: torch.Tensor, dim: int) -> torch.Tensor:
    fits = weights.numel() > 0 and dim in (0, weights.dim() - 1)
    if not fits or norms.numel() != weights.size(dim) or norms.dtype != weights.dtype:
        raise RuntimeError("weight_norm expected one norm for each row or column of the weights")
    return weights


def _checked_state(
    data: torch.Tensor,
    state: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    batch_sizes: torch.Tensor | None,
) -> list[torch.Tensor]:
    """The state, unchanged. Raises RuntimeError if the sizes do not belong together."""
    _require(
        len(state) == 2 and all(each.dim() == 3 for each in state), "two states of 3 dimensions"
    )
    hidden, cell = state
    if hidden.size(2) != cell.size(2):  # with projections oneDNN is not used
        return list(state)
    units, directions = hidden.size(2), 1 + bidirectional
    rows = _rows(data, batch_sizes, batch_first)
    shape = num_layers * directions, rows, units
    _require(tuple(hidden.shape) == shape == tuple(cell.shape), f"states of shape {shape}")
    each = 4 if has_biases else 2
    _require(num_layers > 0 and len(weights) == shape[0] * each, f"{shape[0] * each} weights")
    width = data.size(-1)
    for layer in range(num_layers):
        wanted: list[tuple[int, ...]] = [(_GATES * units, width), (_GATES * units, units)]
        wanted += [(_GATES * units,)] * (each - 2)
        part = weights[layer * directions * each : (layer + 1) * directions * each]
        _require(
            [tuple(w.shape) for w in part] == wanted * directions, f"weights of shapes {wanted}"
        )
        width = units * directions
    _require(len({t.dtype for t in (data, *state, *weights)}) == 1, "tensors of one dtype")
    return list(state)


def _rows(data: torch.Tensor, batch_sizes: torch.Tensor | None, batch_first: bool) -> int:
    if batch_sizes is None:
        _require(data.dim() == 3, "an input of 3 dimensions")
        return data.size(0 if batch_first else 1)
    sizes = [int(size) for size in batch_sizes.reshape(-1).tolist()]
    _require(data.dim() == 2 and bool(sizes), "a packed sequence")
    _require(
        sizes == sorted(sizes, reverse=True) and sizes[-1] > 0, "batch sizes in decreasing order"
    )
    _require(sum(sizes) == data.size(0), "as many rows as the batch sizes say")
    return sizes[0]


def _require(fits: bool, expected: str) -> None:
    if not fits:
        raise RuntimeError(f"a recurrent network expected {expected}")
