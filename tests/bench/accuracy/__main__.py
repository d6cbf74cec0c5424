"""How right the classifier is, on public data that nobody here wrote.

    python -m tests.bench.accuracy [--data FOLDER] [--markdown FILE] [--readme FILE] [--refit]

Prints recall and false escalation by task and pooled, RouteLLM's measures beside random order,
prompt length and logic words, the reliability of the confidence, the categories, and what a
classification costs on this machine. `--markdown` writes the same to a file, `--readme` puts it
between two comments of a file, `--refit` prints the fitted numbers as the code should have them.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.accuracy import fitting, prompts, routing, tables, timing

BLOCK = re.compile(r"(?<=<!-- accuracy: begin -->\n).*?(?=<!-- accuracy: end -->)", re.DOTALL)


def main(words: Sequence[str]) -> int:
    asked = _options(words)
    if asked.refit:
        print("\n".join(_refitted(asked.data)))
        return 0
    text = "\n\n".join(_sections(asked.data, timed=not asked.untimed))
    print(text)
    if asked.markdown:
        asked.markdown.write_text(f"{text}\n", "utf-8")
    if asked.readme:
        asked.readme.write_text(swapped(asked.readme.read_text("utf-8"), text), "utf-8")
    return 0


def swapped(page: str, text: str) -> str:
    """A page with the text between its two comments; a page without them is refused."""
    if not BLOCK.search(page):
        raise ValueError("no <!-- accuracy: begin --> and <!-- accuracy: end --> in the page")
    return BLOCK.sub(lambda _: f"{text}\n", page)


def _sections(data: Path, *, timed: bool) -> Iterator[str]:
    rows = prompts.judged(data)
    sets = routing.questions(data)
    known = fitting.cases(row.prompt for row in rows)
    yield "**Escalation, pooled.**\n\n" + tables.pooled(rows)
    yield "**Escalation by task.**\n\n" + tables.by_task(rows)
    left_out = fitting.complexity_left_out(sets)
    yield "**Complexity as a router.**\n\n" + tables.routers(sets, left_out)
    chances = fitting.chances_left_out(known)
    yield "**Confidence.**\n\n" + tables.reliability(known, chances)
    yield "**Categories.**\n\n" + tables.categories(rows)
    if timed:
        found = timing.costs([row.prompt.text for row in rows])
        yield "**Cost of a classification.**\n\n" + tables.costs(found)


def _refitted(data: Path) -> Iterator[str]:
    yield from fitting.features_refitted(routing.questions(data))
    yield from fitting.chances_refitted(fitting.cases(prompts.prompts(data)))


def _options(words: Sequence[str]) -> argparse.Namespace:
    head, _, tail = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.accuracy",
        description=head,
        epilog=tail,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("MODELSPEND_DATA", beside))
    parser.add_argument("--data", type=Path, default=folder, help="the folder of public data")
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    parser.add_argument("--readme", type=Path, help="swap the tables into this file")
    parser.add_argument("--refit", action="store_true", help="print the fitted numbers and end")
    parser.add_argument("--untimed", action="store_true", help="leave out what depends on load")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
