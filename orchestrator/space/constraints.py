"""Constraints on configurations: `units_2 <= units_1`, `batch_size * layers < 1000`.

A constraint is a comparison of hyperparameters and numbers, written as in Python; `and`, `or` and
`not` join several. It holds if one of the hyperparameters it names is inactive. Only the grammar
below is read: no text of a spec is ever executed.
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
    """A comparison that every tried configuration satisfies; see the module's docstring."""

    text: str  #: the comparison, as the spec writes it
    names: frozenset[str]  #: names of its hyperparameters
    _tree: ast.expr

    @classmethod
    def parse(cls, text: object, *, names: Iterable[str]) -> Constraint:
        """Parse a constraint.

        Args:
            text: The comparison, as the spec writes it.
            names: All names of the space.

        Raises:
            SpecError: If the text is no comparison, or a name in it is not in `names`.
        """
        example = "write for example `units_2 <= units_1`"
        try:
            if not isinstance(text, str):
                raise SyntaxError
            tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError:
            raise SpecError(f"needs a comparison, got {text!r}; {example}") from None
        used = set()
        if not isinstance(tree, _JOINING) or isinstance(getattr(tree, "op", None), ast.USub):
            raise SpecError(f"needs a comparison, got {text!r}; {example}")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                used.add(node.id)
            elif isinstance(node, ast.Constant):
                if not isinstance(node.value, int | float | str):
                    raise SpecError(f"{text!r}: needs numbers and texts, got {node.value!r}")
            elif not isinstance(
                node, (*_OPERATIONS, *_JOINING, ast.BinOp, ast.Load)
            ):  # a call, an index, an attribute
                raise SpecError(f"{text!r}: only comparisons and + - * / ** are read; {example}")
        if not used:
            raise SpecError(f"{text!r}: names no hyperparameter; {example}")
        if unknown := sorted(used - set(names)):
            raise SpecError(
                f"{text!r}: no hyperparameter {unknown[0]!r}; there are {', '.join(names)}"
            )
        return cls(text.strip(), frozenset(used), tree)

    def evaluate(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Evaluate the constraint for many configurations at once.

        Args:
            values: Name -> values, shape (n,), for all of `names`; if inactive, any values.
        """
        with np.errstate(all="ignore"):
            return np.asarray(self._compute(self._tree, values), dtype=bool)

    def _compute(self, node: ast.expr, values: Mapping[str, np.ndarray]) -> Any:
        match node:
            case ast.Name():
                return values[node.id]
            case ast.Constant():
                return node.value
            case ast.UnaryOp():
                return _OPERATIONS[type(node.op)](self._compute(node.operand, values))
            case ast.BinOp():
                left, right = self._compute(node.left, values), self._compute(node.right, values)
                return _OPERATIONS[type(node.op)](left, right)
            case ast.BoolOp():
                parts = [self._compute(part, values) for part in node.values]
                return functools.reduce(_OPERATIONS[type(node.op)], parts)
            case ast.Compare():
                sides = [self._compute(side, values) for side in (node.left, *node.comparators)]
                parts = [
                    _OPERATIONS[type(op)](a, b)
                    for op, a, b in zip(node.ops, sides, sides[1:], strict=False)
                ]
                return functools.reduce(np.logical_and, parts)
        raise AssertionError(ast.dump(node))  # `parse` lets nothing else through
