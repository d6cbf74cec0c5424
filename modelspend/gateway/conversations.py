"""Where conversations are: the model that each was last carried to, and what is cached there.

Providers keep a prompt's beginning for a few minutes and read it at a fraction of the price, but
only for the same model. So what matters of a conversation is small: who answered last, when, and
how many tokens of its prompt that provider has probably kept.
"""

from collections import OrderedDict
from collections.abc import Callable

from modelspend.dialects.dialect import RequestView
from modelspend.dialects.reader import as_name
from modelspend.gateway.caller import Caller
from modelspend.gateway.passage import Request
from modelspend.record import record
from modelspend.routing import Stay

CACHE_LIVES_MS = 5 * 60 * 1000
"""How long providers keep a prompt at the least (OpenAI 5 to 10 minutes, Anthropic 5; their pages
on prompt caching, 2026-11-25)."""

LEAST_CACHED = 1024
"""Prompts below this many tokens are not cached (OpenAI and Anthropic alike, same pages)."""

_MOST = 50_000


@record
class Turn:
    """What the last turn of a conversation left behind."""

    provider: str
    model: str
    at_ms: int
    cached_tokens: int


class Conversations:
    """The conversations under way, the latest last; the oldest are forgotten."""

    def __init__(self) -> None:
        self._turns: OrderedDict[tuple[str, str], Turn] = OrderedDict()

    def stay(self, tenant: str, session_id: str | None, now_ms: int) -> Stay | None:
        """Where a conversation is, if it is known; its cache counts while it may still live."""
        turn = self._turns.get((tenant, session_id)) if session_id else None
        if turn is None:
            return None
        fresh = now_ms - turn.at_ms < CACHE_LIVES_MS
        return Stay(
            provider=turn.provider,
            model=turn.model,
            cached_tokens=turn.cached_tokens if fresh else 0,
        )

    def took(self, tenant: str, session_id: str | None, turn: Turn) -> None:
        """A turn of a conversation went well."""
        if session_id:
            self._turns[tenant, session_id] = turn
            self._turns.move_to_end((tenant, session_id))
            if len(self._turns) > _MOST:
                self._turns.popitem(last=False)


def session_of(
    request: Request, view: RequestView, caller: Caller, fingerprint: Callable[[bytes, str], str]
) -> tuple[str | None, str | None]:
    """(session id, where it is from): our header, else the dialect's conversation field, else a
    keyed fingerprint of how the conversation begins; two tenants never share one."""
    tenant = caller.tenant.encode() + b"\0"
    if caller.session:
        return caller.session, "header"
    if view.session:
        named = as_name(view.session) or fingerprint(tenant + view.session.encode(), "session")
        return named, view.session_source
    if prefix := request.dialect.prefix(view):
        return fingerprint(tenant + prefix, "prefix"), "prefix"
    return None, None
