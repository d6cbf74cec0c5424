"""How hard a model shall think, in words and in tokens: the two ways that vendors ask for it.

The budgets are those that Google documents for OpenAI's words (ai.google.dev/gemini-api/docs/openai
as quoted in public, 2026-11-25). Nobody documents a table for Anthropic, so it has the same.
"""

from collections.abc import Sequence

_BUDGETS = {
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
_ORDER = ("minimal", "low", "medium", "high", "xhigh", "max")


def effort_of(budget: object) -> str | None:
    """The word whose budget holds so many tokens; `none` for 0, None when the model decides."""
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < 0:
        return None
    if budget == 0:
        return "none"
    holding = (word for word in ("low", "medium", "high") if budget <= _BUDGETS[word])
    return next(holding, "high")


def budget_of(effort: str) -> int | None:
    """The tokens of a word; None for a word that is not in the table."""
    return 0 if effort == "none" else _BUDGETS.get(effort)


def nearest(effort: str, levels: Sequence[str]) -> str | None:
    """The highest of some levels that is not above the word, else the lowest of them.

    None for a word of no order, and where there are no levels.
    """
    if effort not in _ORDER or not levels:
        return None
    wanted = _ORDER.index(effort)
    below = [level for level in levels if _ORDER.index(level) <= wanted]
    return below[-1] if below else levels[0]
