"""Whether tests bite: a module with one small thing changed, again and again, and its tests.

`python -m tests.mutants modelspend/breaker.py tests/test_breaker.py …` prints what survived. Each
mutant lives in a forked process, where it stands in place of the module before a test imports it.
"""

import ast
import copy
import importlib
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_S = 60

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
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
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.LShift: ast.RShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.Pow: ast.Mult,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    line: int
    what: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module: operators, constants, branches, results and arguments."""
    whole = ast.parse(source)
    nodes = list(_code(whole))
    for index, node in enumerate(nodes):
        for what, change in _changes(node):
            tree = copy.deepcopy(whole)
            change(list(_code(tree))[index])
            yield Mutant(getattr(node, "lineno", 0), what, ast.fix_missing_locations(tree))


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs: no annotations, docstrings, imports, or what only a type checker sees."""
    yield tree
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list", "bases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _is_talk(child):
                continue
            yield from _code(child)


def _is_talk(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
        return node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Name):
        return node.annotation.id == "TypeAlias"
    literal = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Assert) or (
        literal and node.value.id in ("Literal", "Sequence", "Mapping")  # type: ignore[attr-defined]
    )


Change = tuple[str, Callable[[ast.AST], None]]


def _changes(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare(ops=ops):
            for n, op in enumerate(ops):
                other = _COMPARE[type(op)]
                yield f"{type(op).__name__} -> {other.__name__}", _set("ops", n, other())
        case ast.BinOp(op=op) if type(op) in _BINARY:
            other_op = _BINARY[type(op)]
            yield f"{type(op).__name__} -> {other_op.__name__}", _set("op", None, other_op())
        case ast.BoolOp(op=op):
            swapped = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield f"{type(op).__name__} -> {type(swapped).__name__}", _set("op", None, swapped)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield "operator gone", _set("op", None, ast.UAdd() if _is_minus(node) else _Keep())
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", _set("value", None, not value)
        case ast.Constant(value=int(value) | float(value)):
            yield f"{value} -> {value + 1}", _set("value", None, value + 1)
        case ast.Constant(value=str(value)):
            yield f"{value!r} -> another text", _set("value", None, f"{value}?")
        case ast.If() | ast.IfExp():
            yield "condition -> True", _set("test", None, ast.Constant(True))
            yield "condition -> False", _set("test", None, ast.Constant(False))
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield "result -> None", _set("value", None, ast.Constant(None))
        case ast.Call(keywords=keywords):
            for n, keyword in enumerate(keywords):
                yield f"argument {keyword.arg} gone", _drop("keywords", n)
    match node:
        case ast.Call(func=ast.Name(id="max" | "min" as name)):
            other_name = "min" if name == "max" else "max"
            yield f"{name} -> {other_name}", _rename(other_name)


class _Keep(ast.Not):
    """Stands for an operator that is to go."""


def _is_minus(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _set(field: str, index: int | None, value: object) -> Callable[[ast.AST], None]:
    def change(node: ast.AST) -> None:
        if isinstance(value, _Keep):  # not x -> bool(x)
            inner = node.operand  # type: ignore[attr-defined]
            node.operand = ast.UnaryOp(ast.Not(), inner)  # type: ignore[attr-defined]
        elif index is None:
            setattr(node, field, value)
        else:
            getattr(node, field)[index] = value

    return change


def _drop(field: str, index: int) -> Callable[[ast.AST], None]:
    return lambda node: getattr(node, field).pop(index)


def _rename(name: str) -> Callable[[ast.AST], None]:
    def change(node: ast.AST) -> None:
        node.func.id = name  # type: ignore[attr-defined]

    return change


def survives(mutant: Mutant, module: str, tests: Sequence[str]) -> bool:
    """Whether all tests pass with the mutant in place of the module. In a process of its own."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == 0
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LIMIT_S)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = _run(mutant, module, tests)
    finally:
        os._exit(code)


def _run(mutant: Mutant, module: str, tests: Sequence[str]) -> int:
    import pytest

    made = types.ModuleType(module)
    made.__file__ = f"{module}.py"
    sys.modules[module] = made
    exec(compile(mutant.tree, f"<mutant of {module}>", "exec"), made.__dict__)
    package, _, name = module.rpartition(".")
    setattr(sys.modules[package], name, made)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # most of a run would be their loading
    return int(pytest.main([*_OPTIONS, *tests]))


_OPTIONS = [
    *("-x", "--assert=plain", "--noconftest"),
    *("-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "-p", "pytest_timeout"),
    *("-o", "filterwarnings="),
]


def judge(path: str, tests: Sequence[str]) -> tuple[int, list[Mutant]]:
    """(how many mutants there are, those that survived)."""
    module = path.removesuffix(".py").replace("/", ".")
    for needed in ("pytest", "pydantic", "modelspend", "modelspend.sections"):
        importlib.import_module(needed)
    assert module not in sys.modules, "the module was imported before its mutants could be"
    source = (ROOT / path).read_text("utf-8")
    assert survives(Mutant(0, "unchanged", ast.parse(source)), module, tests), "they fail anyway"
    every = list(mutants(source))
    survived = []
    for one in every:
        if survives(one, module, tests):
            survived.append(one)
            print(f"{path}:{one.line}: {one.what}", flush=True)
    return len(every), survived


def main(path: str, *tests: str) -> None:
    os.environ.setdefault("BREAKER_RUNS", "150")
    count, survived = judge(path, tests)
    killed = count - len(survived)
    print(f"{path}: {count} mutants, {killed} killed ({killed / count:.1%})")


if __name__ == "__main__":
    main(*sys.argv[1:])
