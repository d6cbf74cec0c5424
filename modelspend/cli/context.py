"""What every command shares: the configuration that was named, and the one end of every error.

Hides how an error becomes words and an exit code. With `--json` the words are one JSON object on
stderr. A pipe that is closed early is no error; an error that is not ours is shown by its kind and
place alone, for its text may hold a key.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from modelspend.errors import ExitCode, ModelspendError

if TYPE_CHECKING:
    from modelspend.settings import Loaded


@dataclass(slots=True)
class Here:
    """Where a command runs: the configuration that was named, the environment, the clock."""

    config: Path | None = None
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    errors_as_json: bool = False

    def load(
        self, overrides: Mapping[str, Any] | None = None, policy: Path | None = None
    ) -> "Loaded":
        """The settings, checked whole; notes about them go to stderr. Raises ConfigInvalid."""
        from modelspend import settings

        loaded = settings.load(self.config, self.env, overrides, policy)
        for text in loaded.notes:
            note(text)
        return loaded

    @property
    def ledger(self) -> Path:
        """Where the ledger lies, found without checking the rest of the configuration."""
        from modelspend import places

        return places.ledger(self.config, self.env)

    def typed(self, text: str) -> str:
        """The same words, with each command in them as it has to be typed here: with the
        configuration that was named on the command line."""
        if self.config is None:
            return text
        from shlex import quote

        from modelspend.cli import COMMANDS

        named = "|".join(name for name, _ in COMMANDS if name not in _NEED_NONE)
        with_it = f"modelspend --config {quote(str(self.config))} "
        return re.sub(rf"\bmodelspend (?=(?:{named})\b)", lambda _: with_it, text)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


_NEED_NONE = frozenset({"help", "completions", "demo", "simulate"})


def here(ctx: typer.Context) -> Here:
    """The place that a command runs in."""
    root = ctx.find_root()
    if not isinstance(root.obj, Here):
        root.obj = Here()
    return root.obj


def note(text: str) -> None:
    """Talk, which goes to stderr: stdout is the result and nothing else."""
    typer.echo(f"Note: {text}", err=True)


def with_options(
    run: Callable[..., None],
    options: Mapping[str, tuple[Any, Any]],
    into: tuple[str, Callable[..., Any]],
) -> Callable[..., None]:
    """The command with more options: name → (annotation, default).

    What they were given goes through a function into one parameter of the command (`into`), if it
    has one of that name. Typer reads a command's signature, so a signature is what is made here.
    """
    name, gather = into
    shape = signature(run)
    wanted = {"ctx", name} & shape.parameters.keys()

    @wraps(run)
    def widened(ctx: typer.Context, **given: Any) -> None:
        gathered = gather(**{key: given.pop(key) for key in options})
        fixed = {"ctx": ctx, name: gathered}
        run(**{key: fixed[key] for key in wanted}, **given)

    own = [each for key, each in shape.parameters.items() if key not in wanted]
    ctx = Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    more = [
        Parameter(key, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for key, (annotation, default) in options.items()
    ]
    every = [ctx, *(each.replace(kind=Parameter.KEYWORD_ONLY) for each in own), *more]
    widened.__signature__ = shape.replace(parameters=every)  # type: ignore[attr-defined]
    widened.__annotations__ = {each.name: each.annotation for each in every}
    return widened


def take_config(run: Callable[..., None]) -> Callable[..., None]:
    """The same command with `--config`, so that it may stand after the command's name too."""
    return with_options(run, {"config": (ConfigFile, None)}, into=("config", lambda config: config))


def _remember(ctx: typer.Context, config: Path | None) -> Path | None:
    if config is not None:
        here(ctx).config = config
    return config


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="The configuration file.",
        show_default=False,
        callback=_remember,
    ),
]


class Commands(TyperGroup):
    """The root of all commands, where every error ends."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ours = args[: args.index("--")] if "--" in args else args
        ctx.obj = Here(errors_as_json="--json" in ours)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:
            _hush()
            raise typer.Exit(ExitCode.DONE) from None
        except ModelspendError as error:
            raise _ended(error, ctx.obj) from None
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "format_message"):
                raise  # Typer's own: a usage error, or an end that was asked for
            if ctx.obj.env.get("MODELSPEND_DEBUG"):
                raise
            raise _ended(_foreign(error), ctx.obj) from None
        return result


def _ended(error: ModelspendError, where: Here) -> typer.Exit:
    """The error in words on stderr; its exit code as the end of the command."""
    error.hint = where.typed(error.hint)
    if where.errors_as_json:
        from modelspend.money import dumps

        shape = {"code": error.code, "message": error.message, "hint": error.hint}
        typer.echo(dumps({"error": {**shape, "exit_code": int(error.exit_code)}}), err=True)
    else:
        typer.echo(f"Error: {error.text}", err=True)
    return typer.Exit(error.exit_code)


def _foreign(error: Exception) -> ModelspendError:
    if isinstance(error, OSError) and error.strerror:
        of = f"{error.filename}: " if error.filename else ""
        return ModelspendError(f"{of}{error.strerror}.")
    package = Path(__file__).parents[1]
    ours = [
        f"{Path(frame.f_code.co_filename).name}:{line}"
        for frame, line in walk_tb(error.__traceback__)
        if package in Path(frame.f_code.co_filename).parents
    ]
    place = ours[-1] if ours else "an unknown place"
    return ModelspendError(
        f"This is a fault of modelspend itself: {type(error).__name__} at {place}.",
        "Set MODELSPEND_DEBUG=1 to see all of it.",
    )


def _hush() -> None:
    """Send what is still in the buffers nowhere, or the interpreter complains as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
