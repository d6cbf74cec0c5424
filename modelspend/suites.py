"""Suites: folders of questions with a grader each, read whole before anything is asked.

Every fault is found at once and named by file, line and key. An item's key is a hash of all that
makes its result (what is asked, how it is graded, who judges), so a suite that was changed asks
anew what was changed, and nothing else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from hashlib import sha256
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from modelspend import layers
from modelspend.errors import ConfigInvalid
from modelspend.graders import Grader, Judge, grader_of
from modelspend.quality import CATEGORIES, category_of
from modelspend.record import frozen

SETTINGS = "suite.toml"
_LONGEST_ID = 100


@frozen(kw_only=True)
class Item:
    """One question; `messages` are in the words of openai.chat, `place` is `file:line`."""

    item_id: str
    messages: tuple[Mapping[str, Any], ...]
    grader: Grader = field(repr=False)
    category: str
    place: str
    content: str = field(repr=False)

    @property
    def needs_judge(self) -> bool:
        return isinstance(self.grader, Judge)

    @property
    def asked(self) -> str:
        """The last thing that the user says: what a judge is told was asked."""
        said = [message["content"] for message in self.messages if message["role"] == "user"]
        return str(said[-1]) if said else ""

    def key(self, judge: str | None) -> str:
        """The hash of all that makes its result; a judging model only where one is needed."""
        judged_by = judge if self.needs_judge else None
        return sha256(orjson.dumps([self.content, judged_by])).hexdigest()[:32]


@frozen(kw_only=True)
class Suite:
    """`sha256` is of all that it asks; `max_tokens` and `temperature` are sent when set."""

    name: str
    sha256: str
    items: tuple[Item, ...]
    max_tokens: int | None = None
    temperature: float | None = None

    def first(self, limit: int) -> "Suite":
        """The first so many items of each category, so that a short run still sees them all."""
        taken: dict[str, int] = {}
        kept = []
        for item in self.items:
            taken[item.category] = taken.get(item.category, 0) + 1
            if taken[item.category] <= limit:
                kept.append(item)
        return replace(self, items=tuple(kept))


class _Settings(BaseModel):
    """`suite.toml`: what holds for every item that does not say otherwise."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = Field(None, min_length=1, max_length=_LONGEST_ID)
    category: str | None = None
    task: str | None = None
    system: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    grader: dict[str, Any] | None = None


def suite_of(name: str, files: Mapping[str, str]) -> Suite:
    """The suite of a folder: its `*.jsonl` and `suite.toml`, name → text.

    Raises ConfigInvalid, which names every fault with its place.
    """
    settings, problems = _settings(files.get(SETTINGS, ""))
    items: list[Item] = []
    places: dict[str, str] = {}
    for file in sorted(name for name in files if name.endswith(".jsonl")):
        for number, line in enumerate(files[file].splitlines(), 1):
            if not line.strip():
                continue
            place = f"{file}:{number}"
            try:
                item = _item(line, place, settings)
                if item.item_id in places:
                    raise ValueError(f"id: {item.item_id} is the id of {places[item.item_id]}")
            except ValueError as why:
                problems.append(f"{place}: {why}.")
                continue
            places[item.item_id] = place
            items.append(item)
    if not items and not problems:
        problems.append("no item: a suite is a folder with *.jsonl files, one item on each line.")
    if problems:
        raise ConfigInvalid(
            f"The suite {name} cannot be run:\n" + "\n".join(problems),
            "See: modelspend help eval",
            problems=tuple(problems),
        )
    content = orjson.dumps([item.content for item in items])
    return Suite(
        name=settings.name or name,
        sha256=sha256(content).hexdigest(),
        items=tuple(items),
        max_tokens=settings.max_tokens,
        temperature=settings.temperature,
    )


def _settings(text: str) -> tuple[_Settings, list[str]]:
    layer = layers.read_toml(SETTINGS, text)
    problems = [str(each) for each in (*layer.problems, *layers.check(_Settings, layer))]
    if problems:
        return _Settings(), problems
    settings = _Settings.model_validate(dict(layer.tree) | _plain_numbers(layer.tree))
    if settings.category is not None and settings.category not in CATEGORIES:
        problems.append(f"{layer.place(('category',))}: category: {_none_of(settings.category)}.")
    if settings.grader is not None:
        try:
            grader_of(settings.grader)
        except ValueError as why:
            problems.append(f"{layer.place(('grader',))}: grader.{why}.")
    return settings, problems


def _plain_numbers(tree: Mapping[str, Any]) -> dict[str, float]:
    """TOML is read with exact decimals; a temperature is no money."""
    return {"temperature": float(tree["temperature"])} if "temperature" in tree else {}


_KEYS = ("id", "prompt", "messages", "grader", "category", "task")


def _item(line: str, place: str, settings: _Settings) -> Item:
    """The item of a line. Raises ValueError with the key and what is wrong with it."""
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError as why:
        raise ValueError(f"not JSON: {why}") from None
    if not isinstance(said, dict):
        raise ValueError("not a JSON object")
    for key in said:
        if key not in _KEYS:
            raise ValueError(f"{key[:40]}: unknown; an item has: {', '.join(_KEYS)}")
    item_id = _id(said.get("id"))
    messages = tuple(_messages(said, settings.system))
    told = said.get("grader", settings.grader)
    if told is None:
        raise ValueError("grader: missing, and suite.toml has none")
    try:
        grader = grader_of(told)
    except ValueError as why:
        raise ValueError(f"grader.{why}") from None
    category = _category(said, settings)
    content = [item_id, messages, told, category, settings.max_tokens, settings.temperature]
    return Item(
        item_id=item_id,
        messages=messages,
        grader=grader,
        category=category,
        place=place,
        content=orjson.dumps(content, option=orjson.OPT_SORT_KEYS, default=str).decode(),
    )


def _id(said: object) -> str:
    """It travels in a header as a tag, so it is kept to what a tag can hold."""
    text = str(said) if isinstance(said, str | int) and not isinstance(said, bool) else ""
    printable = text.isascii() and text.isprintable() and not set(text) & set(",=")
    if not text.strip() or not printable or len(text) > _LONGEST_ID:
        raise ValueError(
            f"id: must be a name of at most {_LONGEST_ID} ASCII characters, without commas and ="
        )
    return text.strip()


def _messages(said: Mapping[str, Any], system: str | None) -> Iterator[Mapping[str, Any]]:
    if ("prompt" in said) == ("messages" in said):
        raise ValueError("prompt: give either `prompt` or `messages`")
    if system is not None:
        yield {"role": "system", "content": system}
    if "prompt" in said:
        if not isinstance(said["prompt"], str) or not said["prompt"].strip():
            raise ValueError("prompt: must be text")
        yield {"role": "user", "content": said["prompt"]}
        return
    if not isinstance(said["messages"], list) or not said["messages"]:
        raise ValueError("messages: must be a list of messages")
    for n, message in enumerate(said["messages"]):
        _check_message(message, f"messages[{n}]")
        yield message
    if said["messages"][-1]["role"] != "user":
        raise ValueError("messages: the last one must be the user's")


def _check_message(message: object, where: str) -> None:
    if not isinstance(message, Mapping) or message.keys() != {"role", "content"}:
        raise ValueError(f"{where}: must be an object with `role` and `content`")
    if message["role"] not in ("system", "user", "assistant"):
        raise ValueError(f"{where}.role: must be system, user or assistant")
    if not isinstance(message["content"], str) or not message["content"].strip():
        raise ValueError(f"{where}.content: must be text")


def _category(said: Mapping[str, Any], settings: _Settings) -> str:
    """Of the item, or of its task, or of the suite; the closer one wins."""
    for category, task in (
        (said.get("category"), said.get("task")),
        (settings.category, settings.task),
    ):
        if category is not None:
            if category not in CATEGORIES:
                raise ValueError(f"category: {_none_of(category)}")
            return str(category)
        if task is not None:
            found = category_of(task) if isinstance(task, str) else None
            if found is None:
                raise ValueError(
                    f"task: {str(task)[:40]!r} belongs to no known category; add `category`"
                )
            return found
    raise ValueError(f"category: missing; one of: {', '.join(CATEGORIES)}")


def _none_of(category: object) -> str:
    return f"{str(category)[:40]!r} is none of: {', '.join(CATEGORIES)}"
