"""Small changes to a module, made in its syntax tree: a comparison, a bound by one, a condition, arithmetic, an answer, a statement."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.Add,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_PASSED_OVER = (ast.JoinedStr, ast.Raise, ast.AnnAssign, ast.Import, ast.ImportFrom, ast.arguments)
"""Texts, refusals' words, annotations and defaults: mutants of those tell nothing of the rules."""


@dataclass(frozen=True)
class Mutant:
    """One change: the ``how``-th of the ``at``-th node of the source. ``name``: path, line, and what became of what;
    ``within``: the expression around it, or the name of its function."""

    path: str
    name: str
    within: str
    at: int
    how: int

    @property
    def told(self) -> str:
        """What it is, wherever its line is."""
        return f"{re.sub(r':[0-9]+: ', ': ', self.name, count=1)}, in {self.within}"

    def tree(self, source: str) -> ast.Module:
        """The module with the change, each node at its line."""
        tree = ast.parse(source)
        there = next(node for at, node in enumerate(nodes_of(tree)) if at == self.at)
        list(_changes(there))[self.how]()
        return ast.fix_missing_locations(tree)


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """All of a module's, in order."""
    tree = ast.parse(source)
    around = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for at, node in enumerate(nodes_of(tree)):
        for how, _ in enumerate(_changes(node)):
            after = copy.deepcopy(node)
            list(_changes(after))[how]()
            line = getattr(node, "lineno", 0)
            name = f"{path}:{line}: {_short(node)} -> {_short(after)}"
            yield Mutant(path, name, _within_what(around[node], around), at, how)


def _within_what(node: ast.AST, around: dict[ast.AST, ast.AST]) -> str:
    if isinstance(node, ast.expr):
        return _short(node)
    while not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        node = around[node]
    return f"{node.name}()"


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())[:80]


def nodes_of(tree: ast.AST) -> Iterator[ast.AST]:
    """What may be changed: the bodies of functions, without what is passed over."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name != "__repr__":
            for statement in node.body:
                yield from _within(statement)


def _within(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, (*_PASSED_OVER, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _within(child)


def _changes(node: ast.AST) -> Iterator[Callable[[], None]]:
    if isinstance(node, ast.Compare):
        for at, operator in enumerate(node.ops):
            yield lambda at=at, operator=operator: node.ops.__setitem__(at, _COMPARED[type(operator)]())  # type: ignore[misc]
    elif isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield lambda: setattr(node, "op", other())
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _COUNTED:
        yield lambda: setattr(node, "op", _COUNTED[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield lambda: _become(node, ast.Call(ast.Name("bool", ast.Load()), [node.operand], []))
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield lambda: setattr(node, "value", node.value + 1)  # type: ignore[operator]
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield lambda: setattr(node, "value", ast.Constant(_another(node.value)))
    elif isinstance(node, (ast.Expr, ast.Delete)) or (
        isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript))
    ):
        yield lambda: _become(node, ast.Pass())


def _another(answer: ast.expr | None) -> bool | None:
    """What to answer instead: of yes the no, since whoever asks takes no answer for a no."""
    if isinstance(answer, ast.Constant) and isinstance(answer.value, bool):
        return not answer.value
    return None


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _become(node: ast.AST, other: ast.AST) -> None:
    """Turn the node into another one, in its place."""
    node.__class__ = other.__class__  # type: ignore[assignment]
    node.__dict__.update(other.__dict__)
