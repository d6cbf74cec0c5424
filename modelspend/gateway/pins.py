"""Why a request may go to nobody else: it names its provider, or something that only one keeps.

A request of the Responses API may be one turn that goes on from an answer that its provider stores.
Who that is we know from the answer's id; a name of a model tells less, since an earlier decision
may have sent the conversation somewhere else.
"""

from modelspend.catalog import Catalog
from modelspend.delivery import shown
from modelspend.dialects.dialect import Dialect, RequestView
from modelspend.errors import NoCredential, UnknownAnswer
from modelspend.gateway.caller import Caller
from modelspend.gateway.target import Target, target_at
from modelspend.routing import Stay
from modelspend.store.stored_answers import StoredAnswers

_STATE = ("previous_response_id", "conversation", "cachedContent", "container")
"""Fields that name what only the provider that made it can know."""


def reason(view: RequestView, own: Target | None, kept: Target | None) -> str | None:
    """Why the request may go to nobody else, in words; null when it may."""
    if kept is not None:
        return f"pinned: {kept.provider.name} keeps the answer that it goes on from"
    if own is None:
        return None
    if by_name := named(view.model, own):
        return by_name
    state = next((name for name in _STATE if view.body.get(name)), None)
    return f"pinned: {state} is known to its own provider only" if state else None


def named(model: str, own: Target | None) -> str | None:
    """What the model's name alone says of it."""
    first, slash, _ = model.partition("/")
    if own is not None and slash and first == own.provider.name and own.model != model:
        return "pinned: the model's name names its provider"
    return None


async def keeper(
    catalog: Catalog,
    answers: StoredAnswers | None,
    dialect: Dialect,
    view: RequestView,
    caller: Caller,
    stay: Stay | None,
    any_model: bool,
) -> Target | None:
    """Where the answer or the conversation is kept that a request goes on from, if we know.

    Raises UnknownAnswer for `auto` where nobody knows; a model that was asked for by name is asked
    all the same.
    """
    if dialect.name != "openai.responses":
        return None
    wanted = view.body.get("previous_response_id")
    if not wanted and view.session_source == "conversation" and stay is not None:
        return _target(catalog, stay.provider, stay.model, dialect, caller)
    if not wanted or not isinstance(wanted, str):
        return None
    known = await answers.find(caller.tenant, wanted) if answers else None
    kept = _target(catalog, known.provider, known.model, dialect, caller) if known else None
    if kept is None and any_model:
        raise UnknownAnswer(
            f"No provider here is known to keep {shown(wanted)}.",
            "Name the model that gave that answer, or send the whole conversation as `input`.",
            field="previous_response_id",
        )
    return kept


def _target(
    catalog: Catalog, provider: str, model: str, dialect: Dialect, caller: Caller
) -> Target | None:
    found = catalog.known.get(provider)
    if found is None or not found.speaks(dialect.name):
        return None
    try:
        return target_at(found, model, dialect, caller)
    except NoCredential:
        return None
