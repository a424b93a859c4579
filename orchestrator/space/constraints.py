"""Which configurations are not to be tried: `units_2 <= units_1`, `batch_size * layers < 1000`.

A constraint is a comparison of hyperparameters and numbers, written as in Python; `and`, `or` and
`not` join several. It holds where one of the hyperparameters it names is not active. Only what
stands in the grammar below is read: nothing a spec says is ever executed.
"""

from __future__ import annotations

import ast
import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.errors import SpecError

__all__ = ["Constraint"]

_OPERATIONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.Not: np.logical_not,
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_JOINING = (ast.Compare, ast.BoolOp, ast.UnaryOp)


@dataclass(frozen=True, slots=True)
class Constraint:
    """See the module's docstring."""

    text: str
    names: frozenset[str]  #: of the hyperparameters it speaks of
    _tree: ast.expr

    @classmethod
    def read(cls, text: object, *, known: Iterable[str]) -> Constraint:
        """The constraint in a text.

        Raises:
            SpecError: If it is no comparison, or names what is not among `known`.
        """
        example = "write for example `units_2 <= units_1`"
        try:
            if not isinstance(text, str):
                raise SyntaxError
            tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError:
            raise SpecError(f"needs a comparison, got {text!r}; {example}") from None
        names = set()
        if not isinstance(tree, _JOINING) or isinstance(getattr(tree, "op", None), ast.USub):
            raise SpecError(f"needs a comparison, got {text!r}; {example}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                names.add(node.id)
            elif isinstance(node, ast.Constant):
                if not isinstance(node.value, int | float | str):
                    raise SpecError(f"{text!r}: needs numbers and texts, got {node.value!r}")
            elif not isinstance(
                node, (*_OPERATIONS, *_JOINING, ast.BinOp, ast.Load)
            ):  # a call, an index, an attribute
                raise SpecError(f"{text!r}: only comparisons and + - * / ** are read; {example}")
        if not names:
            raise SpecError(f"{text!r}: names no hyperparameter; {example}")
        if unknown := sorted(names - set(known)):
            raise SpecError(
                f"{text!r}: no hyperparameter {unknown[0]!r}; there are {', '.join(known)}"
            )
        return cls(text.strip(), frozenset(names), tree)

    def holds(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Where it holds, of many configurations at once.

        Args:
            values: For each of `names`, the values, shape (n,); what is not active may be anything.
        """
        with np.errstate(all="ignore"):
            return np.asarray(self._value(self._tree, values), dtype=bool)

    def _value(self, node: ast.expr, values: Mapping[str, np.ndarray]) -> Any:
        match node:
            case ast.Name():
                return values[node.id]
            case ast.Constant():
                return node.value
            case ast.UnaryOp():
                return _OPERATIONS[type(node.op)](self._value(node.operand, values))
            case ast.BinOp():
                left, right = self._value(node.left, values), self._value(node.right, values)
                return _OPERATIONS[type(node.op)](left, right)
            case ast.BoolOp():
                parts = [self._value(part, values) for part in node.values]
                return functools.reduce(_OPERATIONS[type(node.op)], parts)
            case ast.Compare():
                sides = [self._value(side, values) for side in (node.left, *node.comparators)]
                parts = [
                    _OPERATIONS[type(op)](a, b)
                    for op, a, b in zip(node.ops, sides, sides[1:], strict=False)
                ]
                return functools.reduce(np.logical_and, parts)
        raise AssertionError(ast.dump(node))  # `read` lets nothing else through
