"""What is generated and checked in says what the program says; `pytest --regen` rewrites it."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelspend.cli import COMMANDS, app
from modelspend.cli.completions import SHELLS, Node, script, tree
from modelspend.cli.help import text_of, topics
from modelspend.cli.init import example

ROOT = Path(__file__).parents[1]
START, END = "<!-- commands: made by pytest --regen -->\n", "<!-- end of commands -->\n"


def reference(node: Node, path: str = "modelspend") -> Iterator[str]:
    """The commands and their options as Markdown."""
    for name, below in node.below.items():
        if below.below:
            if any("--config" in flag.names for flag in below.flags):  # a command by itself as well
                yield from reference(Node("", "", (), {name: replace(below, below={})}), path)
            yield from reference(below, f"{path} {name}")
            continue
        first = " ".join(below.help.split("\n\n")[0].split())
        yield f"### `{below.usage}`\n\n{first}\n"
        own = [flag for flag in below.flags if "--help" not in flag.names]
        if own:
            yield "| option | meaning |\n| --- | --- |"
            for flag in own:
                takes = f" {flag.takes}" if flag.takes else ""
                yield f"| `{', '.join(flag.names)}{takes}` | {flag.help} |"
            yield ""


def readme() -> str:
    """README.md with its reference made anew."""
    text = (ROOT / "README.md").read_text("utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + "\n" + "\n".join(reference(tree(app))) + "\n" + END + after


GENERATED = {
    "config.example.toml": example,
    "README.md": readme,
    "completions/modelspend.bash": lambda: script("bash", tree(app)),
    "completions/_modelspend": lambda: script("zsh", tree(app)),
    "completions/modelspend.fish": lambda: script("fish", tree(app)),
}


@pytest.mark.parametrize("name", GENERATED)
def test_the_checked_in_file_says_what_the_program_says(
    name: str, pytestconfig: pytest.Config
) -> None:
    path, made = ROOT / name, GENERATED[name]()
    if pytestconfig.getoption("--regen"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(made, "utf-8")
    assert path.read_text("utf-8") == made, "run: pytest --regen tests/test_in_sync.py"


def complete(*words: str) -> list[str]:
    """What bash offers for the last of some words."""
    script_ = (
        f"source {ROOT / 'completions' / 'modelspend.bash'}\n"
        'COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _modelspend; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script_, "bash", *words], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_bash_offers_commands_then_what_is_below_them() -> None:
    assert complete("modelspend", "") == [name for name, _ in COMMANDS]
    assert complete("modelspend", "rece") == ["receipts"]
    assert complete("modelspend", "receipts", "") == ["list", "search", "show", "path"]
    assert complete("modelspend", "--config", "x", "receipts", "sh") == ["show"]


def test_bash_offers_options_and_what_may_follow_them() -> None:
    assert complete("modelspend", "receipts", "list", "--st") == ["--status"]
    assert "interrupted" in complete("modelspend", "receipts", "list", "--status", "")
    assert complete("modelspend", "receipts", "list", "--tenant", "") == []
    assert "--follow" in complete("modelspend", "tail", "-")
    assert complete("modelspend", "help", "exit") == ["exit-codes"]
    assert complete("modelspend", "completions", "") == list(SHELLS)


def nodes(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    yield path, node
    for name, below in node.below.items():
        yield from nodes(below, (*path, name))


@pytest.mark.parametrize(
    ("path", "node"),
    list(nodes(tree(app))),
    ids=lambda v: "-".join(v) or "modelspend" if isinstance(v, tuple) else "",
)
def test_every_command_and_option_says_what_it_does(path: tuple[str, ...], node: Node) -> None:
    assert node.help, f"{path} has no help"
    for flag in node.flags:
        assert flag.help, f"{path}: {flag.names} has no help"
        assert flag.help.endswith((".", ")")) or "[default" in flag.help, f"{path}: {flag.names}"
    if node.usage != "modelspend" and not node.below:
        assert any("--config" in flag.names for flag in node.flags)


def test_every_command_is_known_to_the_other_shells() -> None:
    for shell in ("zsh", "fish"):
        text = script(shell, tree(app))
        for path, node in nodes(tree(app)):
            assert all(step in text for step in path)
            for flag in node.flags:
                long = max(flag.names, key=len)
                assert (f"-l {long[2:]} " if shell == "fish" else f"{long}[") in text, (path, long)


def test_every_topic_has_a_title_and_names_only_commands_that_exist() -> None:
    known = {" ".join(path) for path, _ in nodes(tree(app))}
    for name, title in topics().items():
        assert title
        text = text_of(name)
        for line in text.replace("`", "\n").splitlines():
            words = line.strip().removesuffix(":").split()
            if words[:1] == ["modelspend"] and len(words) > 1 and words[1].isalpha():
                assert words[1] in known, f"{name}: {line}"
