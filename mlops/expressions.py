"""Conditions on rows, as slices are written: a small part of Python's grammar, evaluated on whole columns, never run."""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]

BUILT_IN = ("n_tokens", "n_chars", "label")  # what every row has besides columns of its source
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ALLOWED = 'comparisons (< <= > >= == != in, "not in") of columns, numbers and quoted texts, joined by and, or, not'


class Expression:
    """One condition. Raises ValueError, with the part that is wrong, for anything else than `_ALLOWED` says."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else type(error).__name__
            raise ValueError(f"{text!r} cannot be read: {reason}; allowed: {_ALLOWED}") from None
        self._names: dict[str, None] = {}
        self._check(self._tree)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the source that it names, in order."""
        return tuple(name for name in self._names if name not in BUILT_IN)

    def __call__(self, columns: Mapping[str, Sequence[Any]]) -> Flags:
        """Which rows [n] meet it. columns: [n] each; what is compared with a number is read as one, other cells are false.

        Raises KeyError with what there is for a column that is not there.
        """
        return np.asarray(self._condition(self._tree, columns), dtype=bool)

    def _refuse(self, node: ast.AST) -> ValueError:
        part = ast.get_source_segment(self.text.strip(), node) or type(node).__name__
        return ValueError(f"{self.text!r}: {part!r} is not allowed; allowed: {_ALLOWED}")

    def _check(self, node: ast.expr) -> None:
        if isinstance(node, ast.BoolOp):
            for value in node.values:
                self._check(value)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self._check(node.operand)
        elif isinstance(node, ast.Compare):
            for op, right in zip(node.ops, node.comparators, strict=True):
                self._check_side(right, many=isinstance(op, ast.In | ast.NotIn))
            self._check_side(node.left, many=False)
            if not any(isinstance(side, ast.Name) for side in (node.left, *node.comparators)):
                raise self._refuse(node)
        else:
            raise self._refuse(node)

    def _check_side(self, node: ast.expr, many: bool) -> None:
        if many:
            if not isinstance(node, ast.List | ast.Tuple | ast.Set):
                raise self._refuse(node)
            for element in node.elts:
                if _constant(element) is None:
                    raise self._refuse(element)
        elif isinstance(node, ast.Name):
            self._names[node.id] = None
        elif _constant(node) is None:
            raise self._refuse(node)

    def _condition(self, node: ast.expr, columns: Mapping[str, Sequence[Any]]) -> Flags:
        if isinstance(node, ast.BoolOp):
            parts = [self._condition(value, columns) for value in node.values]
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(join.reduce(parts))
        if isinstance(node, ast.UnaryOp):
            return ~self._condition(node.operand, columns)
        assert isinstance(node, ast.Compare)
        sides = [node.left, *node.comparators]
        found = [
            self._compare(left, op, right, columns) for left, op, right in zip(sides, node.ops, sides[1:], strict=False)
        ]
        return np.asarray(np.logical_and.reduce(found))

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr, columns: Mapping[str, Sequence[Any]]) -> Flags:
        if isinstance(op, ast.In | ast.NotIn):
            assert isinstance(right, ast.List | ast.Tuple | ast.Set)
            join, each_op = (np.logical_and, ast.NotEq()) if isinstance(op, ast.NotIn) else (np.logical_or, ast.Eq())
            return np.asarray(join.reduce([self._compare(left, each_op, each, columns) for each in right.elts]))
        numeric = any(isinstance(_constant(side), int | float) for side in (left, right)) or (
            self._numbers(left, columns) and self._numbers(right, columns)
        )
        one, two = (self._side(side, columns, numeric) for side in (left, right))
        with np.errstate(invalid="ignore"):
            found = np.asarray(_COMPARE[type(op)](one, two), dtype=bool)
        for side in (one, two) if numeric else ():  # what is no number differs from every number, and is no answer
            found = found & ~np.isnan(side)
        return found

    def _numbers(self, node: ast.expr, columns: Mapping[str, Sequence[Any]]) -> bool:
        """Whether it is a column of numbers, with cells that are empty."""
        values = columns.get(node.id, ()) if isinstance(node, ast.Name) else ()
        return any(value is not None for value in values) and not any(
            value is not None and np.isnan(_number(value)) for value in values
        )

    def _side(self, node: ast.expr, columns: Mapping[str, Sequence[Any]], numeric: bool) -> Any:
        if not isinstance(node, ast.Name):
            return _constant(node)
        if node.id not in columns:
            close = difflib.get_close_matches(node.id, list(columns), n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise KeyError(f"{self.text!r} names {node.id!r}; there are: {', '.join(columns)}{guess}")
        values = columns[node.id]
        if numeric:
            return np.array([_number(value) for value in values], dtype=np.float64)
        return np.array(["" if value is None else str(value) for value in values], dtype=object)


def _constant(node: ast.expr) -> float | int | str | None:
    """The number or text that a node is; none where it is neither."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    if not isinstance(node, ast.Constant) or isinstance(node.value, bool):
        return None
    if isinstance(node.value, int | float):
        return sign * node.value
    return node.value if isinstance(node.value, str) and sign == 1 else None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
