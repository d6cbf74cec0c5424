"""Where conversations are: the model that each was last carried to, and what is cached there.

Providers keep a prompt's beginning for a few minutes and read it at a fraction of the price, but
only for the same model. So what matters of a conversation is small: who answered last, when, how
many tokens of its prompt that provider has probably kept, and the same of the few models that it
was on before: a conversation that goes back finds its old cache.
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
_MOST_MODELS = 4


@record
class Turn:
    """What the last turn of a conversation left behind."""

    provider: str
    model: str
    at_ms: int
    cached_tokens: int


@record
class _Known:
    """A conversation: the last turn on each of its models, the latest first; how many it has had;
    and every provider that has answered in it."""

    turns: int
    models: tuple[Turn, ...]
    providers: frozenset[str]


class Conversations:
    """The conversations under way, the latest last; the oldest are forgotten."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def stay(self, tenant: str, session_id: str | None, now_ms: int) -> Stay | None:
        """Where a conversation is, if it is known; a cache counts while it may still live."""
        known = self._known.get((tenant, session_id)) if session_id else None
        if known is None:
            return None
        last, *others = known.models
        return Stay(
            provider=last.provider,
            model=last.model,
            cached_tokens=_alive(last, now_ms),
            turns=known.turns,
            elsewhere={
                f"{turn.provider}/{turn.model}": alive
                for turn in others
                if (alive := _alive(turn, now_ms))
            },
        )

    def providers(self, tenant: str, session_id: str | None) -> frozenset[str]:
        """Who has answered in a conversation so far."""
        known = self._known.get((tenant, session_id)) if session_id else None
        return known.providers if known is not None else frozenset()

    def took(self, tenant: str, session_id: str | None, turn: Turn) -> None:
        """A turn of a conversation went well."""
        if not session_id:
            return
        known = self._known.get((tenant, session_id)) or _Known(
            turns=0, models=(), providers=frozenset()
        )
        here = (turn.provider, turn.model)
        others = [each for each in known.models if (each.provider, each.model) != here]
        self._known[tenant, session_id] = _Known(
            turns=known.turns + 1,
            models=(turn, *others[: _MOST_MODELS - 1]),
            providers=known.providers | {turn.provider},
        )
        self._known.move_to_end((tenant, session_id))
        if len(self._known) > _MOST:
            self._known.popitem(last=False)


def _alive(turn: Turn, now_ms: int) -> int:
    return turn.cached_tokens if now_ms - turn.at_ms < CACHE_LIVES_MS else 0


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
