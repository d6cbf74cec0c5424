"""`help TOPIC`: the long-form help, one Markdown file for each topic in `topics/`."""

from pathlib import Path
from typing import Annotated

import typer

from modelspend.cli.output import Json, draw, on_terminal, write_json

_TOPICS = Path(__file__).parent / "topics"
CLAIMS = "claims"
TITLE = "What is claimed of this product, and what makes it true"


def help(
    topic: Annotated[
        str | None, typer.Argument(help="A topic; without one, all are listed.")
    ] = None,
    json: Json = False,
) -> None:
    """Read long-form help on a topic, such as quickstart, prices or exit-codes."""
    if topic is None:
        _list(json)
    elif json and topic == CLAIMS:
        from modelspend.cli.help_claims import pages

        write_json({"topic": topic, "pages": pages()})
    elif json:
        write_json({"topic": topic, "text": text_of(topic)})
    else:
        _show(text_of(topic))


def topics() -> dict[str, str]:
    """Each topic and its title, the first line of its file; quickstart comes first."""
    files = sorted(_TOPICS.glob("*.md"), key=lambda file: (file.stem != "quickstart", file.stem))
    found = {file.stem: file.read_text("utf-8").splitlines()[0].lstrip("# ") for file in files}
    return found | {CLAIMS: TITLE}


def _list(as_json: bool) -> None:
    found = topics()
    if as_json:
        write_json([{"topic": name, "title": title} for name, title in found.items()])
    else:
        draw(("topic", "title"), list(found.items()))


def text_of(topic: str) -> str:
    """The text of a topic. Raises NotFound."""
    if topic == CLAIMS:
        from modelspend.cli.help_claims import text

        return text()
    if topic not in topics():
        from difflib import get_close_matches

        from modelspend.errors import NotFound

        near = get_close_matches(topic, topics(), n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Topics: {', '.join(topics())}."
        raise NotFound(f"There is no help topic {topic!r}.", hint)
    return (_TOPICS / f"{topic}.md").read_text("utf-8")


def _show(text: str) -> None:
    if not on_terminal():
        typer.echo(text, nl=False)
        return
    import os

    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(no_color="NO_COLOR" in os.environ or None)
    console.print(Markdown(text), width=min(console.width, 92))
