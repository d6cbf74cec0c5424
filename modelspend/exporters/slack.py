"""Slack: alerts through an incoming webhook, several in one message where several go off at once.

Hides Slack's limits and its escapes: only `&`, `<` and `>` mean something, and a message that is
too long is refused whole. https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
(read 2026-11-22)
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from modelspend.alarms import RESOLVED, TEST
from modelspend.errors import ConfigInvalid
from modelspend.events import Event
from modelspend.exporters.channels import Channel, Said, facts, of_http, title
from modelspend.exporters.http import Door
from modelspend.exporters.surroundings import held
from modelspend.money import dumps
from modelspend.settings import Settings, Slack
from modelspend.store import Store

_MOST_AT_ONCE = 10  # two blocks each, of the fifty that a message may have
_LINGER_S = 2.0
_MOST_TEXT = 2900  # of a section's 3000
_SIGNS = {"critical": ":rotating_light:", "warn": ":warning:", "info": ":information_source:"}
_OVER = ":white_check_mark:"


def sinks(settings: Settings, env: Mapping[str, str], store: Store) -> list[Channel]:
    """One for each `[alerts.slack.NAME]`. Raises ConfigInvalid when its address is not set."""
    return channels(settings, env, str(store.path))


def channels(settings: Settings, env: Mapping[str, str], ledger: str) -> list[Channel]:
    """The same, of the ledger at a path."""
    found = settings.alerts.slack.items()
    return [channel(name, one, env) for name, one in found if one.enabled]


def channel(name: str, section: Slack, env: Mapping[str, str]) -> Channel:
    """One of them, with what the environment holds for it."""
    url = held(env, f"alerts.slack.{name}.url_env", section.url_env)
    if not url.lower().startswith(("https://", "http://")):
        raise ConfigInvalid(
            f"alerts.slack.{name}: {section.url_env} holds no address.",
            "It begins with https://hooks.slack.com/services/",
        )
    door = Door(allow_private=section.allow_private, timeout_s=section.timeout_s)

    async def say(events: Sequence[Event]) -> Said:
        headers = {"content-type": "application/json; charset=utf-8"}
        answer = await door.post(url, dumps(message(events)), headers)
        return of_http(answer, taken=answer.ok)

    return Channel("slack", name, section, say, door.close, most=_MOST_AT_ONCE, linger_s=_LINGER_S)


def message(events: Sequence[Event]) -> dict[str, Any]:
    """The body: blocks, and the text that notifications show."""
    titles = [title(event) for event in events]
    text = "\n".join(titles)
    return {
        "text": _escaped(text[:_MOST_TEXT]),
        "blocks": [block for event in events for block in _blocks(event)],
    }


def _blocks(event: Event) -> Iterator[dict[str, Any]]:
    sign = _OVER if event.kind in (RESOLVED, TEST) else _SIGNS.get(str(event.level), "")
    said = f"{sign} *{_escaped(title(event)[:200])}*\n"
    said += _cut(_escaped(str(event.data.get("message", ""))), _MOST_TEXT - len(said))
    yield {"type": "section", "text": {"type": "mrkdwn", "text": said, "verbatim": True}}
    told = "   ".join(f"{name}: {value}" for name, value in facts(event))
    if told:
        yield {
            "type": "context",
            "elements": [{"type": "plain_text", "text": told[: _MOST_TEXT // 2], "emoji": False}],
        }


def _cut(escaped: str, most: int) -> str:
    """So many characters at most as Slack counts them, escapes and all; none is cut in two."""
    return escaped if len(escaped) <= most else re.sub(r"&[a-z]*$", "", escaped[:most])


def _escaped(text: str) -> str:
    """For mrkdwn: these three alone, and `verbatim`, so that no name becomes a link or a mention.
    What could be emphasis in one is left as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
