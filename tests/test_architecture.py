"""The layout of the code, read from its imports: who may know whom, and what is listed by hand."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "modelspend"
FILES = sorted(PACKAGE.rglob("*.py"))
PARTS = (
    "catalog",
    "dialects",
    "store",
    "gateway",
    "reports",
    "exporters",
    "server",
    "simulator",
    "cli",
)

MAY_IMPORT = {
    "root": set(),
    "catalog": set(),
    "dialects": set(),
    "store": set(),
    "reports": {"store", "catalog"},
    "exporters": {"store"},
    "gateway": {"catalog", "dialects", "store"},
    "server": {"catalog", "dialects", "store", "reports", "exporters", "gateway"},
    "simulator": {"dialects"},
    "cli": set(PARTS),
}
"""What each part may import beside itself and the root modules."""

ONLY_IN = {
    "sqlite3": ("store",),
    "sqlite_utils": ("store",),
    "typer": ("cli",),
    "rich": ("cli",),
    "aiohttp.web": ("server", "simulator"),
    "genai_prices": ("catalog/pricelib.py",),
}
AIOHTTP = ("server", "simulator", "exporters")
SERVER_STARTERS = {"serve", "demo", "run"}
SIMULATOR_STARTERS = {"simulate", "demo", "drill"}
VAGUE = {"utils", "helpers", "common", "base", "manager", "service", "misc", "tools"}

_LONG = 500


def part_of(path: Path) -> str:
    steps = path.relative_to(PACKAGE).parts
    return steps[0] if len(steps) > 1 else "root"


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[tuple[str, int]]:
    """Every module a file imports, with its line; `from a import b` gives `a` and `a.b`."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield module, node.lineno
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def parts_imported(path: Path) -> Iterator[tuple[str, int]]:
    for module, line in imports(path):
        steps = module.split(".")
        if steps[0] == "modelspend" and len(steps) > 1 and steps[1] in PARTS:
            yield steps[1], line


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    part = part_of(path)
    if path.name == "__main__.py" and part == "root":
        return  # the door to the command line
    allowed = MAY_IMPORT[part] | {part}
    wrong = [
        f"line {line}: {other}" for other, line in parts_imported(path) if other not in allowed
    ]
    assert not wrong, f"{named(path)} ({part}) may not import {wrong}"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_library_is_known_only_where_it_belongs(path: Path) -> None:
    here = named(path)
    for module, line in imports(path):
        for library, homes in ONLY_IN.items():
            if module == library or module.startswith(f"{library}."):
                assert here.startswith(homes), f"{here}:{line} imports {module}"
        if module == "aiohttp" or module.startswith("aiohttp."):
            assert here.startswith(AIOHTTP), f"{here}:{line} imports {module}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=named)
def test_only_the_commands_that_start_them_know_the_server_and_the_simulator(path: Path) -> None:
    known = {part for part, _ in parts_imported(path)}
    command = path.stem.partition("_")[0]  # demo_show.py is a part of the command demo
    assert "server" not in known or command in SERVER_STARTERS
    assert "simulator" not in known or command in SIMULATOR_STARTERS


LIGHT = {"typer", "__future__"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=named)
def test_a_command_imports_what_is_heavy_only_when_it_runs(path: Path) -> None:
    import sys

    for module, line in imports(path, top_level_only=True):
        steps = module.split(".")
        light = steps[0] in LIGHT or steps[0] in sys.stdlib_module_names
        ours = steps[0] == "modelspend" and (
            len(steps) == 1 or steps[1] not in PARTS or steps[1] == "cli"
        )
        assert light or ours, f"{named(path)}:{line} imports {module} at its top"


def test_asking_for_help_loads_none_of_the_heavy_libraries() -> None:
    import subprocess
    import sys

    heavy = (
        "asyncio",
        "aiohttp",
        "pydantic",
        "rich",
        "sqlite3",
        "sqlite_utils",
        "uvloop",
        "genai_prices",
    )
    code = (
        "import sys; from modelspend.cli import app\n"
        "try: app(['--help'], prog_name='modelspend')\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert done.stdout.startswith("Usage: modelspend")
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_module_is_named_for_what_it_hides(path: Path) -> None:
    assert not VAGUE & set(path.stem.lower().split("_")), named(path)
    assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{named(path)} has no docstring"


KNOWN_LONG = {
    "receipt.py": 720,  # the record, its JSON and back: three views of one list of fields
    "sections.py": 550,  # the settings: one table after another, each read alone
}


def test_no_file_has_grown_past_what_can_be_read_in_one_go() -> None:
    lengths = {named(path): len(path.read_text("utf-8").splitlines()) for path in FILES}
    too_long = {name: n for name, n in lengths.items() if n > KNOWN_LONG.get(name, _LONG)}
    assert too_long == {}


def test_no_two_packages_want_each_other() -> None:
    edges = {
        (part_of(path), other)
        for path in FILES
        for other, _ in parts_imported(path)
        if part_of(path) != other
    }
    assert {(a, b) for a, b in edges if (b, a) in edges} == set()


COMMAND_NEIGHBOURS = {
    "batch",
    "checks",
    "client",
    "context",
    "filters",
    "output",
    "reading",
    "report",
    "slip",
}
"""What commands share; no commands themselves."""


def test_every_command_file_is_listed_and_every_listed_command_has_its_file() -> None:
    from modelspend.cli import COMMANDS

    files = {path.stem for path in (PACKAGE / "cli").glob("*.py")} - {"__init__"}
    listed = {name.replace("-", "_") for name, _ in COMMANDS}
    parts = {stem for stem in files - listed if stem.partition("_")[0] in listed}
    assert files - COMMAND_NEIGHBOURS - parts == listed


EXPORTER_PARTS = {
    "addresses",
    "brief",
    "cef",
    "channels",
    "datadog_metrics",
    "ecs",
    "folder",
    "formats",
    "http",
    "json_lines",
    "notice",
    "ocsf",
    "otlp_bytes",
    "pump",
    "ration",
    "roll",
    "spans",
    "surroundings",
    "syslog",
    "wire",
}
"""What exporters share or are made of; no exporters themselves."""


def test_every_exporter_file_is_listed_and_every_listed_exporter_has_its_file() -> None:
    from modelspend.exporters import EXPORTERS

    files = {path.stem for path in (PACKAGE / "exporters").glob("*.py")} - {"__init__"}
    assert files - EXPORTER_PARTS == {name for name, _ in EXPORTERS}
    for name, make in EXPORTERS:
        assert make.__module__ == f"modelspend.exporters.{name}"


def test_every_dialect_that_the_settings_name_is_listed() -> None:
    from typing import get_args

    from modelspend.dialects import DIALECTS
    from modelspend.sections import DialectName

    assert set(get_args(DialectName)) <= set(DIALECTS)
    for name, dialect in DIALECTS.items():
        assert dialect.name == name


def test_every_module_that_speaks_a_dialect_is_listed() -> None:
    from modelspend.dialects import DIALECTS

    listed = {type(dialect).__module__.rpartition(".")[2] for dialect in DIALECTS.values()}
    speakers = {
        path.stem
        for path in (PACKAGE / "dialects").glob("*.py")
        if any(
            isinstance(node, ast.ClassDef)
            and {"read", "encode_stream"}
            <= {f.name for f in node.body if isinstance(f, ast.FunctionDef)}
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
        )
    } - {"dialect"}
    assert speakers <= listed


@pytest.mark.parametrize("path", FILES, ids=named)
def test_nothing_prints_or_ends_the_process_beside_the_command_line(path: Path) -> None:
    if part_of(path) == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "exit", "quit", "breakpoint"), (
                f"{named(path)}:{node.lineno}"
            )
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("sys", "exit"), f"{named(path)}:{node.lineno}"


def test_committed_text_names_no_path_of_the_machine_it_was_written_on() -> None:
    places = ("/wo" + "rk/", "/ro" + "ot/", "/tm" + "p/")
    for path in [*FILES, *PACKAGE.rglob("*.md"), *PACKAGE.rglob("*.toml")]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            assert not any(place in line for place in places), f"{named(path)}:{number}"


NOT_DRAWN_BY_ROWS = {
    "budgets",
    "exhaustion",
    "forecast",
    "glance",
    "lines",
    "roi",
    "table",
    "tried",
    "watched",
}
"""What reports share, and those of another shape, which their commands draw themselves."""


def test_every_report_is_listed_and_has_its_command() -> None:
    from modelspend.cli import COMMANDS
    from modelspend.reports import REPORTS

    files = {path.stem for path in (PACKAGE / "reports").glob("*.py")} - {"__init__"}
    listed = {name for name, _ in REPORTS}
    assert files - NOT_DRAWN_BY_ROWS == listed
    assert listed <= {name for name, _ in COMMANDS}
