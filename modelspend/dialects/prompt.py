"""What a request says to the model, in the parts that a router reads: cheap, from the parsed JSON.

The newest user turn is the last one with words of its own: in a conversation with tools the last
messages may be nothing but their results.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from modelspend.chat import Prompt
from modelspend.dialects.reader import as_list

_EARLIER = 3
"""Messages before the newest user turn that are kept."""


def prompt_of(messages: Sequence[Any], *, system: str = "", content: str = "content") -> Prompt:
    """The prompt of a list of messages; `content` is the key that their words stand under."""
    instructions = [system] if system else []
    said: list[tuple[str, str]] = []
    for message in messages:
        if not isinstance(message, dict):
            continue
        words, role = words_of(message.get(content)), message.get("role")
        if role == "system" or role == "developer":
            instructions.append(words)
        elif words:
            said.append((str(role or "user"), words))
    newest = next((n for n in range(len(said) - 1, -1, -1) if said[n][0] == "user"), None)
    if newest is None:
        return Prompt(newest="", system="\n".join(instructions))
    return Prompt(
        newest=said[newest][1],
        system="\n".join(instructions),
        history=tuple(words for _, words in said[max(0, newest - _EARLIER) : newest]),
    )


def only_words(messages: object, roles: tuple[str, ...]) -> bool:
    """Whether it is a list of messages of these roles, each with nothing but a text."""
    return isinstance(messages, list) and all(
        isinstance(message, dict)
        and message.keys() == _PLAIN
        and isinstance(message["content"], str)
        and message["role"] in roles
        for message in messages
    )


_PLAIN = {"role", "content"}


def words_of(content: object) -> str:
    """The text of a content: plain, or the texts of its parts one under the other."""
    if isinstance(content, str):
        return content
    return "\n".join(_texts(as_list(content)))


def _texts(parts: Sequence[Any]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]
