"""`completions SHELL`: scripts for bash, zsh and fish, made from the commands themselves.

A script holds every name in itself: pressing TAB starts no program. `tree` is what the scripts and
the README's reference are made from.
"""

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Any

import typer

from modelspend.record import frozen

SHELLS = ("bash", "zsh", "fish")


@frozen
class Flag:
    """One option: its spellings, its help, and what may follow it (None: nothing follows)."""

    names: tuple[str, ...]
    help: str
    takes: str | None = None
    values: tuple[str, ...] = ()


@frozen
class Node:
    """One command, or a group with commands below it."""

    help: str
    usage: str
    flags: tuple[Flag, ...]
    below: Mapping[str, "Node"] = field(default_factory=dict)
    words: tuple[str, ...] = ()


def completions(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print the completion script of a shell."""
    if shell not in SHELLS:
        from modelspend.errors import Usage

        raise Usage(f"There are no completions for {shell!r}.", f"Shells: {', '.join(SHELLS)}.")
    from modelspend.cli import app

    typer.echo(script(shell, tree(app)), nl=False)


def tree(app: typer.Typer) -> Node:
    """Every command of the program with its options."""
    return _node(typer.main.get_command(app), "modelspend")


def _node(command: Any, path: str) -> Node:
    below = {}
    if hasattr(command, "commands"):
        for name in command.list_commands(None):
            below[name] = _node(command.commands[name], f"{path} {name}")
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    flags = tuple(_flag(each) for each in shown if each.param_type_name == "option")
    arguments = [each for each in shown if each.param_type_name == "argument"]
    return Node(
        help=(command.help or "").strip(),
        usage=" ".join([path, *(_argument(each) for each in arguments)]),
        flags=(*flags, Flag(("-h", "--help"), "Show this message and exit.")),
        below=below,
        words=_values().get(path.rpartition(" ")[2], ()),
    )


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper().replace("_", "-")
    many = f"{name}..." if argument.nargs == -1 and not argument.metavar else name
    return many if argument.required else f"[{many}]"


def _flag(option: Any) -> Flag:
    names = tuple(sorted((*option.opts, *option.secondary_opts), key=len))
    takes = None if option.is_flag else (option.metavar or option.name.upper())
    long = max(option.opts, key=len)
    return Flag(names, option.help or "", takes, _values().get(long, ()))


def _values() -> dict[str, tuple[str, ...]]:
    """What may follow an option or stand as a command's word, where the choices are few."""
    from modelspend.cli.help import topics
    from modelspend.receipt import Status

    return {
        "--status": tuple(Status),
        "--since": ("1h", "24h", "7d", "30d", "today", "mtd", "ytd"),
        "--view": ("on-call", "finance", "security"),
        "--log-level": ("debug", "info", "warning", "error"),
        "help": tuple(topics()),
        "completions": SHELLS,
    }


def script(shell: str, root: Node) -> str:
    """The completion script of a shell."""
    made = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](root)
    return "\n".join(made) + "\n"


def _walk(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    yield path, node
    for name, below in node.below.items():
        yield from _walk(below, (*path, name))


def _words(node: Node) -> tuple[str, ...]:
    return (*node.below, *node.words)


def _bash(root: Node) -> Iterator[str]:
    takers = sorted({n for _, node in _walk(root) for f in node.flags if f.takes for n in f.names})
    yield "# bash completion for modelspend; made by: modelspend completions bash"
    yield "_modelspend() {"
    yield '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"'
    yield '    local path="" word index words="" options=""'
    yield "    for ((index = 1; index < COMP_CWORD; index++)); do"
    yield '        word="${COMP_WORDS[index]}"'
    yield '        case "$word" in'
    yield f"            {'|'.join(takers)}) ((index++)) ;;"
    yield "            -*) ;;"
    yield '            *) case " $path/$word " in'
    yield f'                {_known_paths(root)}) path="$path/$word" ;;'
    yield "            esac ;;"
    yield "        esac"
    yield "    done"
    yield '    case "$previous" in'
    for name, values in _following(root).items():
        yield f'        {name}) COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$current"))'
        yield "            return ;;"
    files = sorted({n for _, nd in _walk(root) for f in nd.flags if _is_file(f) for n in f.names})
    yield f'        {"|".join(files)}) COMPREPLY=($(compgen -f -- "$current")); return ;;'
    yield f"        {'|'.join(takers)}) return ;;"
    yield "    esac"
    yield '    case "$path" in'
    for path, node in _walk(root):
        options = " ".join(name for flag in node.flags for name in flag.names)
        where = "/" + "/".join(path) if path else '""'
        yield f'        {where}) words="{" ".join(_words(node))}" options="{options}" ;;'
    yield "    esac"
    yield '    [[ "$current" == -* ]] && words="$options"'
    yield '    COMPREPLY=($(compgen -W "$words" -- "$current"))'
    yield "}"
    yield "complete -o default -F _modelspend modelspend"


def _known_paths(root: Node) -> str:
    return "|".join(f'" /{"/".join(path)} "' for path, _ in _walk(root) if path)


def _following(root: Node) -> dict[str, tuple[str, ...]]:
    return {
        name: flag.values
        for _, node in _walk(root)
        for flag in node.flags
        if flag.values
        for name in flag.names
    }


def _is_file(flag: Flag) -> bool:
    return flag.takes in ("PATH", "FILE")


def _zsh(root: Node) -> Iterator[str]:
    yield "#compdef modelspend"
    yield "# zsh completion for modelspend; made by: modelspend completions zsh"
    for path, node in _walk(root):
        yield f"{_function(path)}() {{"
        if node.below:
            yield '    local curcontext="$curcontext" state line'
            yield f"    _arguments -C {_zsh_flags(node)} '1: :->command' '*:: :->rest'"
            yield "    case $state in"
            yield "        command) local -a commands; commands=("
            for name, below in node.below.items():
                yield f"            {_quoted(f'{name}:{_first(below.help)}')}"
            yield "        ); _describe -t commands command commands ;;"
            yield "        rest) case $words[1] in"
            for name in node.below:
                yield f"            {name}) {_function((*path, name))} ;;"
            yield "        esac ;;"
            yield "    esac"
        else:
            words = f" '1: :({' '.join(node.words)})'" if node.words else " '*: :_files'"
            yield f"    _arguments {_zsh_flags(node)}{words}"
        yield "}"
    yield 'if [ "$funcstack[1]" = "_modelspend" ]; then _modelspend "$@"'
    yield "else compdef _modelspend modelspend; fi"


def _function(path: tuple[str, ...]) -> str:
    return "_".join(("_modelspend", *(step.replace("-", "_") for step in path)))


def _zsh_flags(node: Node) -> str:
    return " ".join(_zsh_flag(name, flag) for flag in node.flags for name in flag.names)


def _zsh_flag(name: str, flag: Flag) -> str:
    help = _first(flag.help).replace("[", "(").replace("]", ")").replace(":", " ")
    if not flag.takes:
        return _quoted(f"{name}[{help}]")
    what = f"({' '.join(flag.values)})" if flag.values else "_files" if _is_file(flag) else ""
    return _quoted(f"*{name}[{help}]:{flag.takes}:{what}")


def _fish(root: Node) -> Iterator[str]:
    yield "# fish completion for modelspend; made by: modelspend completions fish"
    yield "complete -c modelspend -f"
    for path, node in _walk(root):
        at = f"-n {_quoted(_fish_condition(path, node))}"
        for name, below in node.below.items():
            yield f"complete -c modelspend {at} -a {name} -d {_quoted(_first(below.help))}"
        if node.words:
            yield f"complete -c modelspend {at} -a {_quoted(' '.join(node.words))}"
        for flag in node.flags:
            yield f"complete -c modelspend {at} {_fish_flag(flag)}"


def _fish_condition(path: tuple[str, ...], node: Node) -> str:
    seen = "; and ".join(f"__fish_seen_subcommand_from {step}" for step in path)
    not_below = f"not __fish_seen_subcommand_from {' '.join(node.below)}" if node.below else ""
    return "; and ".join(filter(None, (seen, not_below)))


def _fish_flag(flag: Flag) -> str:
    names = " ".join(
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names
    )
    values = f" -a {_quoted(' '.join(flag.values))}" if flag.values else ""
    follows = (" -r -F" if _is_file(flag) else " -x") if flag.takes else ""
    return f"{names}{follows}{values} -d {_quoted(_first(flag.help))}"


def _first(text: str) -> str:
    """The first sentence, on one line."""
    line = " ".join(text.split("\n\n")[0].split())
    return line.partition(". ")[0].rstrip(".")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
