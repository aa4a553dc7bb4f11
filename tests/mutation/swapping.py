"""A mutant takes its function's place in this process: its code, in the functions that are there already. The same way functions
tell which mutants' statements a test comes to, at the cost of one call each.
"""

from __future__ import annotations

import ast
import gc
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

from tests.mutation.mutants import Mutant, nodes_of

Place = tuple[str, str, int]
"""A function: its file, its name with those of its classes, its first line."""
HIT = "__mutant_reached__"


def place_of(code: CodeType) -> Place:
    return code.co_filename, code.co_qualname, code.co_firstlineno


def outermost(code: CodeType) -> Iterator[CodeType]:
    """The functions of a module and its classes, without those within them."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            if part.co_flags & inspect.CO_OPTIMIZED:
                yield part
            else:
                yield from outermost(part)


class Functions:
    """All functions of some files that live in this process, and where their code stands."""

    def __init__(self, root: Path, paths: set[str]) -> None:
        self._root = root
        files = {str(root / path) for path in paths}
        self._sources = {path: (root / path).read_text() for path in paths}
        self._whole = {path: self._codes(path, ast.parse(self._sources[path])) for path in paths}
        self._living: dict[Place, list[FunctionType]] = {}
        for one in gc.get_objects():
            if type(one) is FunctionType and one.__code__.co_filename in files:
                self._living.setdefault(place_of(one.__code__), []).append(one)

    def _codes(self, path: str, tree: ast.Module) -> dict[Place, CodeType]:
        code = compile(tree, str(self._root / path), "exec", dont_inherit=True)
        return {place_of(part): part for part in outermost(code)}

    def changed(self, mutant: Mutant) -> tuple[Place, CodeType] | None:
        """Which function is another one with it, and its new code; None where the compiler makes the same of both."""
        whole = self._whole[mutant.path]
        tree = mutant.tree(self._sources[mutant.path])
        codes = self._codes(mutant.path, tree)
        place = next((place for place, code in codes.items() if code != whole[place]), None)
        if place is None:
            return None
        if codes[place].co_freevars != whole[place].co_freevars:
            _name_class(tree, place)
            codes = self._codes(mutant.path, tree)
        return place, codes[place]

    def watch(self, mutants: list[Mutant], reached: Callable[[int], object]) -> None:
        """Have ``reached`` called with a mutant's number whenever its statement is about to run."""
        for path, source in self._sources.items():
            tree = ast.parse(source)
            nodes = list(nodes_of(tree))
            numbers = [(number, nodes[m.at]) for number, m in enumerate(mutants) if m.path == path]
            _tell(tree, numbers)
            for place, code in self._codes(path, tree).items():
                for function in self._living.get(place, []):
                    function.__globals__[HIT] = reached
                if code != self._whole[path][place]:
                    self.put(place, code)

    def put(self, place: Place, code: CodeType) -> bool:
        """Give the function new code; whether there is one to give it to."""
        for function in (living := self._living.get(place, [])):
            function.__code__ = code
        return bool(living)


def _name_class(tree: ast.Module, place: Place) -> None:
    """Have the function go on naming its class, where the statement left out was the one with ``super()``: code is taken only
    by a function with as many cells."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if first == place[2]:
                node.body.append(ast.parse("if 0: __class__").body[0])
                ast.fix_missing_locations(tree)


def _tell(tree: ast.Module, numbers: list[tuple[int, ast.AST]]) -> None:
    """Put a call before each statement that has one of these nodes in it."""
    homes = dict[ast.AST, tuple[list[ast.stmt], ast.stmt]]()
    for node in ast.walk(tree):
        for _, within in ast.iter_fields(node):
            for statement in within if isinstance(within, list) else []:
                if isinstance(statement, ast.stmt):
                    homes.update(dict.fromkeys(ast.walk(statement), (within, statement)))
    for number, node in numbers:
        body, statement = homes[node]
        call = ast.Expr(ast.Call(ast.Name(HIT, ast.Load()), [ast.Constant(number)], []))
        ast.copy_location(call, statement)
        body.insert(body.index(statement), ast.fix_missing_locations(call))
