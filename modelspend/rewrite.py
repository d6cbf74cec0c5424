"""Shorter prompts that say the same: splices into the client's own bytes, step by step.

Two steps, both of which a model reads as the same: `whitespace` in what can only be prose, and the
layout of tool results that are JSON (`tool_json`). A third was weighed and left out: a block that
comes twice is not replaced by a pointer to the first, because the pointer is text that nobody
wrote, models weigh what stands last, and once the first copy leaves the window the later bytes
would have to change.

A provider's cache is never broken. What stands at or before the last `cache_control` mark stays;
where caches take prefixes by themselves, what a text becomes depends on it and on what stands
before it, never on what follows: the same history is rewritten to the same bytes each turn, and
what went out unrewritten once (`cached_prefix`) stays as it is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from modelspend import jsontext
from modelspend.record import record
from modelspend.segments import addressed

if TYPE_CHECKING:
    from modelspend.sections import RewriteStep
    from modelspend.settings import Settings

STEPS: "tuple[RewriteStep, ...]" = ("whitespace", "tool_json")


@record
class Rewritten:
    """The bytes to send; `steps` says what was done. Characters are those of the texts that
    changed, before and after."""

    body: bytes
    steps: "tuple[RewriteStep, ...]" = ()
    chars_before: int = 0
    chars_after: int = 0


Path = tuple[str | int, ...]


class _Text(NamedTuple):
    """A text that the client wrote: where it stands, and whether it is what a tool gave back."""

    path: Path
    text: str
    result: bool


def steps_for(settings: "Settings", tenant: str, workflow: str | None) -> "tuple[RewriteStep, ...]":
    """The steps that hold for a caller: its workflow's word, its tenant's, that of the whole."""
    payer = settings.tenants.get(tenant)
    job = settings.workflows.get(workflow) if workflow else None
    if payer is not None and payer.rewrite is False:
        return ()
    said = [section.rewrite for section in (job, payer) if section is not None]
    enabled = next((word for word in said if word is not None), settings.rewrite.enabled)
    return settings.rewrite.steps if enabled else ()


def rewrite(
    body: bytes,
    fields: Mapping[str, Any],
    dialect: str,
    *,
    cached_prefix: int = 0,
    steps: "Sequence[RewriteStep]" = STEPS,
) -> Rewritten:
    """The body with what can be shorter, or as it was. `fields` is its JSON.

    `cached_prefix` counts the leading segments (see `segments.cut`) that earlier turns sent as they
    are. The result is never longer, and to rewrite it again changes nothing.
    """
    if not steps or fields.get("cache_control"):  # the whole request is one cached prefix
        return Rewritten(body=body)
    parts = list(addressed(dialect, fields))
    first = max(cached_prefix, _after_marks(body, parts))
    texts = [(n, each) for n, (_, path, value) in enumerate(parts) for each in _texts(path, value)]
    if not any(n >= first and _is_loose(each.text) for n, each in texts):
        return Rewritten(body=body)
    changes: dict[Path, str] = {}
    done: set[RewriteStep] = set()
    before = after = 0
    for n, (at, text, result) in texts:
        if _speaks_of_spaces(text):
            break
        step: RewriteStep = "tool_json" if result else "whitespace"
        if n < first or step not in steps or not _is_loose(text):
            continue
        new = _laid_out(text) if result else _squeezed(text)
        if len(new) < len(text):
            changes[at] = new
            done.add(step)
            before, after = before + len(text), after + len(new)
    if not changes:
        return Rewritten(body=body)
    return Rewritten(
        body=_spliced(body, changes),
        steps=tuple(step for step in STEPS if step in done),
        chars_before=before,
        chars_after=after,
    )


def _after_marks(body: bytes, parts: Sequence[tuple[Any, Path, Any]]) -> int:
    """How many segments stand at or before the last mark; all of a marked one stays."""
    if b"cache_control" not in body and b"\\u" not in body:
        return 0
    marked = (n for n, (_, _, value) in enumerate(parts) if _marked(value))
    return max(marked, default=-1) + 1


def _marked(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value.get("cache_control")) or any(map(_marked, value.values()))
    return isinstance(value, list) and any(map(_marked, value))


# Where texts stand. The model's own words stay as they are, and so does what is no text.

_PROSE_PARTS = frozenset({"text", "input_text"})
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})


def _texts(path: Path, value: Any) -> Iterator[_Text]:
    """The texts of one segment that the client or its tools wrote."""
    if isinstance(value, str):
        if path:
            yield _Text(path, value, result=False)
        return
    if not isinstance(value, dict) or not path:
        return
    role = value.get("role")
    if role in ("assistant", "model"):
        return
    if value.get("type") in _RESULTS:
        yield from _content((*path, "output"), value.get("output"), result=True)
    elif "content" in value:
        result = role in ("tool", "function") or value.get("type") == "tool_result"
        yield from _content((*path, "content"), value["content"], result=result)
    elif isinstance(value.get("parts"), list):
        yield from _content((*path, "parts"), value["parts"], result=False)
    elif isinstance(value.get("text"), str):  # a part of a system prompt
        yield _Text((*path, "text"), value["text"], result=False)


def _content(path: Path, content: Any, *, result: bool) -> Iterator[_Text]:
    if isinstance(content, str):
        yield _Text(path, content, result)
        return
    for n, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict):
            continue
        at = (*path, n)
        if part.get("type") == "tool_result":
            yield from _content((*at, "content"), part.get("content"), result=True)
        elif isinstance(part.get("functionResponse"), dict):
            response = part["functionResponse"].get("response")
            for name, said in response.items() if isinstance(response, dict) else ():
                if isinstance(said, str):
                    yield _Text((*at, "functionResponse", "response", name), said, result=True)
        elif isinstance(part.get("text"), str) and _is_text(part):
            yield _Text((*at, "text"), part["text"], result)


def _is_text(part: Mapping[str, Any]) -> bool:
    return part.get("type", "text") in _PROSE_PARTS and not part.get("thought")


def _is_loose(text: str) -> bool:
    """Whether any step could find something to do; most texts are told at once that none does."""
    if "  " in text or " \n" in text or "\n\n\n" in text:
        return True
    return text[:1] in _OPENS and (" " in text or "\n" in text)


_OPENS = ("{", "[", " ", "\n", "\t", "\r")


# Tool results that are JSON.


def _laid_out(text: str) -> str:
    """JSON without its layout: every number, string and key keeps its characters and its place."""
    if text.lstrip(_JSON_SPACE)[:1] not in ("{", "["):
        return text
    raw = text.encode("utf-8", "surrogatepass")
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return text
    return jsontext.minified(raw).decode()


_JSON_SPACE = " \t\r\n"


# Whitespace in prose. Whatever might be code, a quotation, a table or a list is left alone.


def _squeezed(text: str) -> str:
    """The text with single spaces and single blank lines where it can be nothing but prose."""
    if _NEVER.search(text):
        return text
    pieces = _BLANK_LINES.split(text)
    prose = _prose(pieces[::2], [len(piece) > 2 for piece in pieces[1::2]])
    out: list[str] = []
    for n, piece in enumerate(pieces):
        last = n + 1 == len(pieces)
        if n % 2:  # blank lines, between two blocks
            ended = n + 2 == len(pieces) and not pieces[n + 1]
            between = prose[n // 2] and (prose[n // 2 + 1] or ended)
            out.append("\n\n" if between else piece)
        elif prose[n // 2] and (" \n" in piece or "  " in piece or piece[-1:] == " "):
            ends = _LINE_END.sub("", piece)  # the end of a text may touch the text that follows
            out.append(_RUN.sub(" ", ends if last else ends.rstrip(" ")))
        else:
            out.append(piece)
    return "".join(out)


def _prose(blocks: Sequence[str], wide: Sequence[bool]) -> list[bool]:
    """Which blocks between blank lines are prose, fences and long quotations seen as a whole.

    `wide` says which blank lines could be fewer; a block beside none of them, with nothing in it
    that could go, need not be looked at.
    """
    found: list[bool] = []
    fence, quotes, depth = "", 0, 0
    for n, block in enumerate(blocks):
        inside = bool(fence) or quotes % 2 == 1 or depth > 0
        if "```" in block or "~~~" in block:
            for line in block.split("\n"):
                fence = _fence_after(fence, line)
        if not block.isascii():
            depth += sum(map(block.count, "“«")) - sum(map(block.count, "”»"))
            depth = max(0, depth)
        quotes += block.count('"')
        asked = any(wide[max(0, n - 1) : n + 1]) or "  " in block or " \n" in block
        asked = asked or block[-1:] == " "
        found.append(asked and not inside and _is_prose(block))
    return found


def _fence_after(fence: str, line: str) -> str:
    """The fence that is open behind a line, "" for none."""
    mark = _FENCE.match(line)
    if mark is None:
        return fence
    if not fence:
        return mark[1]
    closes = mark[1].startswith(fence) and not line[mark.end() :].strip()
    return "" if closes else fence


def _is_prose(block: str) -> bool:
    """Words and sentences, line by line from the margin, and nothing that stands in columns."""
    if _MARKS.search(block) or not _SENTENCE.search(block) or len(block.split()) < _FEW_WORDS:
        return False
    if any(sign in block for sign in _CODE) or ("/" in block and _PATH.search(block)):
        return False
    if "." in block and _DOTTED.search(block):
        return False
    if ("'" in block or "’" in block) and _QUOTE.search(block):
        return False
    lines = block.strip("\n").split("\n")
    if not all(line[:1].isalnum() or line[:1] == "(" for line in lines):
        return False
    if "   " in block and _WIDE.search(block):
        return False
    return "  " not in block or sum(1 for line in lines if _COLUMN.search(line)) < 2


_FEW_WORDS = 6
_NEVER = re.compile(r"\r|„|<(?:pre|code|script|style|textarea|xmp)\b", re.IGNORECASE)
_BLANK_LINES = re.compile(r"(\n(?:[ \t]*\n)+)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
# Marks of code, of quotations, of drawings.
_MARKS = re.compile(r"[`\"“”«»‘{}\[\]<>|=\\^~#@$_*+&\t\u2500-\u259f]")
_SENTENCE = re.compile(r"[.!?:…][)’]?\s*\Z")
_CODE = ("//", "--", "::", ";\n", "()")
_PATH = re.compile(r"\w/\w")
_DOTTED = re.compile(r"\w\.\w")
_QUOTE = re.compile(r"(?<!\w)['’]|['’](?!\w)")  # an apostrophe stands between letters
_WIDE = re.compile(r"[^.!? ] {3}|[.!?] {4}")
_COLUMN = re.compile(r"[^.!?\s]  +\S")
_LINE_END = re.compile(r" +(?=\n)")
_RUN = re.compile(r"(?<=[\w.!?,;:)’]) {2,3}(?=[\w(])")


def _speaks_of_spaces(text: str) -> bool:
    """Whether a text is about whitespace itself (an editing agent's instructions are), so that
    nothing from it on may lose any."""
    low = text.lower()
    return any(word in low for word in _ABOUT) or (
        "space" in low and _SPACES.search(low) is not None
    )


_ABOUT = (
    "spacing",
    "indent",
    "newline",
    "new line",
    "blank line",
    "empty line",
    "line break",
    "linebreak",
    "verbatim",
    "character count",
    "count the characters",
    "byte for byte",
    "character by character",
    "typograph",
    "proofread",
)
_SPACES = re.compile(r"(?<![a-z])(?:white)?[ -]?spaces?(?![a-z])")


# The splices.


def _spliced(body: bytes, changes: Mapping[Path, str]) -> bytes:
    """The body with other texts at some places; every other byte is the client's own."""
    tree: dict[str | int, Any] = {}
    for path, text in changes.items():
        inner = tree
        for step in path[:-1]:
            inner = inner.setdefault(step, {})
        inner[path[-1]] = text
    out: list[bytes] = []
    at = 0
    for start, end, text in sorted(_spans(body, body.index(b"{"), tree)):
        out += (body[at:start], orjson.dumps(text))  # which escapes no more than it must
        at = end
    return b"".join([*out, body[at:]])


def _spans(body: bytes, at: int, tree: Mapping[str | int, Any]) -> Iterator[tuple[int, int, str]]:
    """Where the texts of a tree of changes stand within the value at `at`."""
    places: dict[str | int, tuple[int, int]]
    if body[at] == _OBJECT:  # of a key told twice the last one holds, as when it was read
        places = {found.key: (found.value, found.end) for found in jsontext.members(body, at)}
    else:
        places = dict(enumerate(jsontext.items(body, at)))
    for step, inner in tree.items():
        start, end = places[step]
        if isinstance(inner, str):
            yield start, end, inner
        else:
            yield from _spans(body, start, inner)


_OBJECT = ord("{")
