"""Constraints on configurations: `units_2 <= units_1`, `batch_size * layers < 1000`.

A constraint is a comparison of hyperparameters and numbers, written as in Python; `and`, `or` and
`not` join several. It holds if one of the hyperparameters it names is inactive. Only the grammar
below is read, within limits of length and depth: no text of a spec is ever executed.

Numbers are float64 and are computed by NumPy's functions, which never raise: 1 / 0 is infinite,
0 / 0 is NaN, and no comparison with NaN holds. Python's integers would have no limit: 9**9**9 has
369 million digits. What is text and what is a number is checked when a constraint is parsed, so no
comparison of a text with a number is ever computed.
"""

from __future__ import annotations

import ast
import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from orchestrator.errors import SpecError
from orchestrator.quote import join_names, quote

__all__ = ["Constraint", "Kind", "to_operand"]

MAX_LENGTH = 1_000  #: characters of a constraint
MAX_DEPTH = 30  #: operations inside each other
EXAMPLE = "write for example `units_2 <= units_1`"

#: What the values of a hyperparameter are; a choice of [none, 1] is mixed. True counts as 1.
Kind = Literal["number", "text", "mixed"]

_OPERATIONS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.USub: np.negative,
    ast.Not: np.logical_not,
    ast.And: np.logical_and,
    ast.Or: np.logical_or,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_JOINING = (ast.Compare, ast.BoolOp, ast.UnaryOp)
_READ = (*_OPERATIONS, *_JOINING, ast.BinOp, ast.Name, ast.Constant, ast.Load)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A comparison that every tried configuration satisfies; see the module's docstring."""

    text: str  #: the comparison, as the spec writes it
    names: frozenset[str]  #: names of its hyperparameters
    _tree: ast.expr

    @classmethod
    def parse(cls, text: object, *, kinds: Mapping[str, Kind]) -> Constraint:
        """Parse a constraint.

        Args:
            text: The comparison, as the spec writes it.
            kinds: All names of the space, and what their values are.

        Raises:
            SpecError: If the text is no comparison, is too long or too deep, names something that
                is not in `kinds`, or compares a text with a number.
        """
        tree = _parse_comparison(text)
        _check_grammar(tree, quote(text))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        if not used:
            raise SpecError(f"{quote(text)}: names no hyperparameter; {EXAMPLE}")
        if unknown := sorted(used - kinds.keys()):
            raise SpecError(
                f"{quote(text)}: no hyperparameter {quote(unknown[0])}; "
                f"there are {join_names(kinds)}"
            )
        _check_kinds(tree, kinds)
        return cls(str(text).strip(), frozenset(used), tree)

    def evaluate(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Evaluate the constraint for many configurations at once.

        Args:
            values: Name -> values as `to_operand` makes them, shape (n,), for all of `names`; if
                inactive, any values.
        """
        with np.errstate(all="ignore"):
            return np.asarray(_compute(self._tree, values), dtype=bool)


def to_operand(values: Any, kind: Kind) -> np.ndarray:
    """Convert values to an array that constraints compute with: float64, or objects if not numbers.

    An array of text and numbers would otherwise become an array of text.
    """
    return np.asarray(values, dtype=np.float64 if kind == "number" else object)


def _parse_comparison(text: object) -> ast.expr:
    """Parse a text of limited length as an expression of Python that compares or joins."""
    if not isinstance(text, str):
        raise SpecError(f"needs a comparison, got {quote(text)}; {EXAMPLE}")
    if len(text) > MAX_LENGTH:
        raise SpecError(
            f"a comparison needs at most {MAX_LENGTH:,} characters, got {len(text):,}: "
            f"{quote(text)}; write several"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python's about `1or x` and `1 is x`
            tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a NUL is a ValueError
        tree = None
    if not isinstance(tree, _JOINING) or isinstance(getattr(tree, "op", None), ast.USub):
        raise SpecError(f"needs a comparison, got {quote(text)}; {EXAMPLE}")
    return tree


def _check_grammar(tree: ast.expr, quoted: str) -> None:
    """Refuse what is not in the grammar, and an expression that is too deep to compute."""
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        for node in level:
            if not isinstance(node, _READ):  # a call, an index, an attribute
                raise SpecError(f"{quoted}: only comparisons and + - * / ** are read; {EXAMPLE}")
            if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
                raise SpecError(f"{quoted}: needs numbers and texts, got {quote(node.value)}")
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    if level:
        raise SpecError(
            f"{quoted}: needs at most {MAX_DEPTH} operations inside each other; "
            f"write several comparisons"
        )


def _check_kinds(node: ast.expr, kinds: Mapping[str, Kind]) -> Kind:
    """Return what an expression's values are.

    Raises:
        SpecError: If it computes with a text, compares a text with a number, or is a number beyond
            float64, such as 9**9**9 or 1/0.
    """
    parts = [_check_kinds(part, kinds) for part in _list_operands(node)]
    if isinstance(node, ast.Name):
        return kinds[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return "text"
    if isinstance(node, ast.Compare):
        _check_comparison(node, parts)
    elif any(part != "number" for part in parts):
        raise SpecError(f"{_quote_source(node)}: needs numbers, got a text")
    elif not isinstance(node, ast.BoolOp) and not _is_finite(node):
        raise SpecError(f"{_quote_source(node)}: is no finite number")
    return "number"


def _check_comparison(node: ast.Compare, kinds: list[Kind]) -> None:
    """Refuse a comparison that cannot hold; mixed values can only be equal or not."""
    for op, left, right in zip(node.ops, kinds, kinds[1:], strict=False):
        is_equality = isinstance(op, ast.Eq | ast.NotEq)
        if "mixed" in (left, right) and is_equality:
            continue
        if left != right or left == "mixed":
            raise SpecError(f"{_quote_source(node)}: compares a text with a number")


def _is_finite(node: ast.expr) -> bool:
    """Whether an expression without names is a finite number; True if it has names."""
    if any(isinstance(part, ast.Name) for part in ast.walk(node)):
        return True
    try:
        with np.errstate(all="ignore"):
            return bool(np.isfinite(_compute(node, {})))
    except OverflowError:  # an integer of more than 308 digits
        return False


def _list_operands(node: ast.expr) -> list[ast.expr]:
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _quote_source(node: ast.expr) -> str:
    return quote(ast.unparse(node))


def _compute(node: ast.expr, values: Mapping[str, np.ndarray]) -> Any:
    """Compute an expression that was checked; what is true is 1.0, so that it can be added."""
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.Constant):
        return to_operand(node.value, "text" if isinstance(node.value, str) else "number")
    parts = [_compute(part, values) for part in _list_operands(node)]
    if isinstance(node, ast.Compare):
        pairs = zip(node.ops, parts, parts[1:], strict=False)
        holds = [_OPERATIONS[type(op)](left, right) for op, left, right in pairs]
        return functools.reduce(np.logical_and, holds).astype(np.float64)
    assert isinstance(node, ast.BoolOp | ast.BinOp | ast.UnaryOp)
    operation = _OPERATIONS[type(node.op)]
    result = functools.reduce(operation, parts) if len(parts) > 1 else operation(*parts)
    return result.astype(np.float64)
