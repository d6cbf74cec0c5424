"""Where each provider keeps its counts, and the one interpreter that makes them disjoint.

Rules are data (`[usage.DIALECT]` in a provider's TOML file): paths into the raw usage object and
what includes what. `read` undoes the inclusion. It never raises and never yields a negative
count: whatever makes no sense in an object is left out and named in `Usage.problems`, and that
makes the cost inexact. The buckets of a sane object sum to the provider's own total.

A path is `a.b.c`; `list[key=V,W].count` sums the counts of the matching items; `p | q` takes the
first that is there; a list of paths is summed.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Literal

from modelspend.money import MAX_PICO, PICO_PER_USD
from modelspend.receipt import Usage
from modelspend.record import frozen

MAX_COUNT = 10**9  # of anything in one call: more is a provider's mistake, not a usage

_ABSENT: Any = object()

Steps = tuple[str | tuple[str, frozenset[str]], ...]
Path = tuple[Steps, ...]
"""The alternatives of one path, first choice first."""


@frozen(kw_only=True)
class UsageRules:
    """The rules of one dialect at one provider. Each field holds the paths whose values sum.

    `cache` says whether cache reads and writes are inside `input` or beside it. `omits_zero`: a
    count that is absent is 0. `output_is_rest`: what the total has beyond input and output is
    output too. `rounds` names the list whose items are billed one by one.
    """

    input: tuple[Path, ...] = ()
    output: tuple[Path, ...] = ()
    total: tuple[Path, ...] = ()
    reasoning: tuple[Path, ...] = ()
    cache_read: tuple[Path, ...] = ()
    cache_write: tuple[Path, ...] = ()
    cache_write_5m: tuple[Path, ...] = ()
    cache_write_1h: tuple[Path, ...] = ()
    input_audio: tuple[Path, ...] = ()
    cached_audio: tuple[Path, ...] = ()
    input_image: tuple[Path, ...] = ()
    cached_image: tuple[Path, ...] = ()
    output_audio: tuple[Path, ...] = ()
    output_image: tuple[Path, ...] = ()
    web_searches: tuple[Path, ...] = ()
    tool_calls: tuple[Path, ...] = ()
    reported: tuple[Path, ...] = ()
    byok: tuple[Path, ...] = ()
    byok_reported: tuple[Path, ...] = ()
    cache: Literal["inside", "beside"] = "inside"
    omits_zero: bool = False
    output_is_rest: bool = False
    rounds: str = ""
    flat: frozenset[str] = frozenset()
    nested: frozenset[str] = frozenset()
    """Top-level keys of all that is neither input nor output nor total: counts, and objects of
    counts; see `_plain`."""


def rules_from(table: Mapping[str, Any]) -> UsageRules:
    """The rules that a TOML table spells. Raises ValueError for a key that is no rule."""
    known = {field.name for field in fields(UsageRules)} - {"flat", "nested"}
    if unknown := table.keys() - known:
        raise ValueError(f"not a usage rule: {', '.join(sorted(unknown))}")
    plain = {"cache", "omits_zero", "output_is_rest", "rounds"}
    spelled: dict[str, Any] = {
        key: value if key in plain else _paths(value) for key, value in table.items()
    }
    special = [
        steps
        for key in spelled.keys() - plain - {"input", "output", "total"}
        for path in spelled[key]
        for steps in path
    ]
    flat = {str(steps[0]) for steps in special if len(steps) == 1}
    nested = {str(steps[0]) for steps in special if len(steps) > 1}
    flat |= {table["rounds"]} if table.get("rounds") else set()
    return UsageRules(**spelled, flat=frozenset(flat), nested=frozenset(nested - flat))


def _paths(spelled: str | list[str]) -> tuple[Path, ...]:
    each = [spelled] if isinstance(spelled, str) else spelled
    return tuple(tuple(_steps(option.strip()) for option in path.split("|")) for path in each)


def _steps(path: str) -> Steps:
    steps: list[str | tuple[str, frozenset[str]]] = []
    for part in path.split("."):
        name, bracket, test = part.partition("[")
        steps.append(name)
        if bracket:
            key, _, values = test.removesuffix("]").partition("=")
            steps.append((key, frozenset(values.split(","))))
    return tuple(steps)


def read(
    rules: UsageRules, raw: Mapping[str, Any] | None, counts: Mapping[str, int] | None = None
) -> Usage:
    """The disjoint buckets of a raw usage object.

    `counts` is what only the answer's items show (`web_searches`, `tool_calls`); the object's own
    count wins. With neither input nor output in it, the source is `none` and the problems say why.
    """
    if not isinstance(raw, Mapping):
        return Usage(problems=(_missing(raw),))
    if not counts and (plain := _plain(rules, raw)) is not None:
        return plain
    reader = _Reader(raw)
    quantities, reasoning = reader.tokens(rules)
    if reader.seen and rules.rounds:
        quantities = reader.rounds(rules, quantities)
    quantities |= reader.counted(rules, counts or {})
    return Usage(
        quantities={bucket: n for bucket, n in quantities.items() if n},
        reasoning_tokens=reasoning,
        source="provider" if reader.seen else "none",
        raw=raw,
        problems=tuple(dict.fromkeys(reader.problems)),
    )


def _plain(rules: UsageRules, raw: Mapping[str, Any]) -> Usage | None:
    """The usage of most calls, in a third of the time: input and output, all else nothing.

    None where anything special is counted, or anything is odd: then the rules are followed.
    """
    if not all(map(_nothing, map(raw.get, rules.flat))):
        return None
    for value in map(raw.get, rules.nested):
        if value is not None and not (type(value) is dict and all(map(_nothing, value.values()))):
            return None
    given, written = _one(rules.input, raw), _one(rules.output, raw)
    if given is None or written is None:
        return None
    if rules.total:
        total = _one(rules.total, raw)
        if total is None or total != given + written:
            return None
    quantities = {"input_tokens": given} if given else {}
    if written:
        quantities["output_tokens"] = written
    return Usage(quantities=quantities, source="provider", raw=raw)


def _nothing(value: Any) -> bool:
    return value is None or (value == 0 and type(value) is int)


def _one(paths: tuple[Path, ...], raw: Mapping[str, Any]) -> int | None:
    """A count that stands plainly under a name of its own; None for anything else."""
    if len(paths) != 1 or len(paths[0]) != 1 or len(paths[0][0]) != 1:
        return None
    value = raw.get(paths[0][0][0])  # type: ignore[arg-type]  # a step that is no text finds nothing
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def _missing(raw: object) -> str:
    if raw is None:
        return "the answer has no usage"
    return f"usage is {_kind(raw)}, not an object"


def billed_apart(rules: UsageRules, raw: Mapping[str, Any] | None) -> tuple[tuple[str, Usage], ...]:
    """(model, its usage) of each round that another model than the one asked took part with."""
    if not rules.rounds or not isinstance(raw, Mapping):
        return ()
    apart: list[tuple[str, Usage]] = []
    for item in _items(raw.get(rules.rounds)):
        model = item.get("model")
        if isinstance(model, str) and model:
            reader = _Reader(item)
            quantities, reasoning = reader.tokens(rules)
            counted = {bucket: n for bucket, n in quantities.items() if n}
            apart.append(
                (model, Usage(quantities=counted, reasoning_tokens=reasoning, source="provider",
                              problems=tuple(reader.problems)))
            )  # fmt: skip
    return tuple(apart)


def reported_pico(rules: UsageRules, raw: Mapping[str, Any] | None) -> int | None:
    """What the provider says it charged, in pico-dollars; null when it says nothing sane."""
    if not rules.reported or not isinstance(raw, Mapping):
        return None
    amount = _dollars(_first(raw, rules.reported[0]))
    if amount is not None and rules.byok and _first(raw, rules.byok[0]) is True:
        amount += _dollars(_first(raw, rules.byok_reported[0])) or 0
    return amount


def _dollars(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or not 0 <= value <= MAX_PICO // PICO_PER_USD:
        return None
    # the shortest decimal of the float is what the provider printed
    exact = Decimal(str(value)) * PICO_PER_USD
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


class _Reader:
    """One pass over one object: the numbers that make sense, and words for those that do not."""

    __slots__ = ("problems", "raw", "seen")

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.problems: list[str] = []
        self.seen = False

    def tokens(self, rules: UsageRules) -> tuple[dict[str, int], int]:
        given, written = self._main(rules)
        if given is None and written is None:
            return {}, 0
        self.seen = True
        buckets = self._input(rules, given or 0)
        told = self._sum(rules.reasoning)
        total = self._sum(rules.total)
        beyond = 0 if total is None else total - sum(buckets.values()) - (written or 0)
        if rules.output_is_rest and beyond > 0:
            written, told, beyond = (written or 0) + beyond, told or beyond, 0
        if beyond:
            self.problems.append(f"the parts differ from the total by {beyond:+d}")
        written = written or 0
        reasoning = self._within(told or 0, written, "reasoning", "output")
        buckets |= self._output(rules, written)
        return buckets, reasoning

    def _main(self, rules: UsageRules) -> tuple[int | None, int | None]:
        given, written = self._sum(rules.input), self._sum(rules.output)
        if given is None and written is None:
            if not self.problems:
                self.problems.append("usage has neither input nor output")
            return None, None
        if rules.omits_zero:
            return given, written
        total = self._sum(rules.total)
        if given is None:
            given = self._rest("input", total, written)
        if written is None and rules.output:
            written = self._rest("output", total, given)
        return given, written

    def _rest(self, name: str, total: int | None, other: int | None) -> int:
        rest = (total or 0) - (other or 0)
        if rest > 0:
            self.problems.append(f"{name} is missing: taken from the total")
            return rest
        self.problems.append(f"{name} is missing")
        return 0

    def _input(self, rules: UsageRules, given: int) -> dict[str, int]:
        cached = self._sum(rules.cache_read) or 0
        short, long = self._writes(rules)
        audio, images = self._sum(rules.input_audio) or 0, self._sum(rules.input_image) or 0
        heard = self._sum(rules.cached_audio)
        if heard is None and audio and cached and rules.cached_audio:
            self.problems.append("cached audio is not told from other cached input")
        cached_audio = self._within(heard or 0, min(cached, audio), "cached audio", "it")
        drawn = self._sum(rules.cached_image) or 0
        most = min(cached - cached_audio, images)
        cached_image = self._within(drawn, most, "cached images", "them")
        inside = {
            "cached_audio_tokens": cached_audio,
            "cache_read_tokens": cached - cached_audio,
            "cache_write_1h_tokens": long,
            "cache_write_5m_tokens": short,
            "input_audio_tokens": audio - cached_audio,
            "input_image_tokens": images - cached_image,
        }
        if rules.cache == "beside":
            return self._fill("input_tokens", given, {}) | inside
        return self._fill("input_tokens", given, inside)

    def _writes(self, rules: UsageRules) -> tuple[int, int]:
        """Tokens written for 5 minutes and for an hour; all for 5 minutes when that is unclear."""
        total = self._sum(rules.cache_write)
        short, long = self._sum(rules.cache_write_5m), self._sum(rules.cache_write_1h)
        if short is None and long is None:
            return total or 0, 0
        short, long = short or 0, long or 0
        if total is None or total == short + long:
            return short, long
        self.problems.append(f"cache writes of 5 minutes and 1 hour do not sum to {total}")
        return total, 0

    def _output(self, rules: UsageRules, written: int) -> dict[str, int]:
        spoken, drawn = self._sum(rules.output_audio) or 0, self._sum(rules.output_image) or 0
        inside = {"output_audio_tokens": spoken, "output_image_tokens": drawn}
        return self._fill("output_tokens", written, inside)

    def _fill(self, bucket: str, whole: int, inside: dict[str, int]) -> dict[str, int]:
        """The parts, cut down where they exceed the whole, and what is left as `bucket`."""
        left = whole
        parts: dict[str, int] = {}
        for name, n in inside.items():
            if n:
                parts[name] = self._within(n, left, name.removesuffix("_tokens"), bucket)
                left -= parts[name]
        return {bucket: left} | parts

    def _within(self, part: int, whole: int, name: str, of: str) -> int:
        if part <= whole:
            return part
        self.problems.append(f"{name} ({part}) exceeds what is left of {of} ({whole})")
        return whole

    def rounds(self, rules: UsageRules, top: dict[str, int]) -> dict[str, int]:
        """The sum of the rounds of the model itself, where that is more than the top says."""
        own = [item for item in _items(self.raw.get(rules.rounds)) if not item.get("model")]
        if not own:
            return top
        summed: dict[str, int] = {}
        for item in own:
            reader = _Reader(item)
            for bucket, n in reader.tokens(rules)[0].items():
                summed[bucket] = summed.get(bucket, 0) + n
            self.problems += reader.problems
        if any(summed.get(bucket, 0) < n for bucket, n in top.items()):
            self.problems.append(f"{rules.rounds} do not add up to the usage beside them")
            return top
        return summed

    def counted(self, rules: UsageRules, counts: Mapping[str, int]) -> dict[str, int]:
        found: dict[str, int] = {}
        for bucket, paths in (
            ("web_searches", rules.web_searches),
            ("tool_calls", rules.tool_calls),
        ):
            told = self._sum(paths)
            n = self._count(counts.get(bucket, 0), bucket) if told is None else told
            if n:
                found[bucket] = n
        return found

    def _sum(self, paths: tuple[Path, ...]) -> int | None:
        """The sum of the counts that are there; null when none is, or none makes sense."""
        total: int | None = None
        for path in paths:
            for steps in path:
                if steps[0] not in self.raw:
                    continue
                value = _walk(self.raw, steps)
                if value is _ABSENT or value is None:
                    continue
                if type(value) is not int or not 0 <= value <= MAX_COUNT:
                    value = self._odd(value, steps)
                if value is not None:
                    total = value + (total or 0)
                break
        return total

    def _odd(self, value: Any, steps: Steps) -> int | None:
        """What can be used of a value that is no plain count."""
        if isinstance(value, _Wrong):
            self.problems.append(str(value))
            return None
        name = ".".join(step for step in steps if isinstance(step, str))
        if isinstance(value, tuple):
            return sum(self._count(item, name) or 0 for item in value)
        return self._count(value, name)

    def _count(self, value: Any, name: str) -> int | None:
        if type(value) is int and 0 <= value <= MAX_COUNT:
            return value
        if isinstance(value, float) and value.is_integer() and 0 <= value <= MAX_COUNT:
            self.problems.append(f"{name} is a fraction in form: {value!r}")
            return int(value)
        self.problems.append(f"{name} is not a count: {_show(value)}")
        return None


class _Wrong(str):
    """Why a path could not be followed."""

    __slots__ = ()


def _walk(value: Any, steps: Steps) -> Any:
    """What lies at the path: a value, a tuple of values after a test, `_ABSENT` or a `_Wrong`."""
    for at, step in enumerate(steps):
        if type(value) is dict and type(step) is str:  # nearly always
            value = value.get(step, _ABSENT)
        elif value is None:
            return _ABSENT
        elif not isinstance(step, str):
            if not isinstance(value, list):
                return _Wrong(f"{steps[at - 1]} is {_kind(value)}, not a list")
            return _matching(value, step, steps[at + 1 :])
        elif isinstance(value, Mapping):
            value = value.get(step, _ABSENT)
        else:
            return _Wrong(f"{steps[at - 1]} is {_kind(value)}, not an object")
        if value is _ABSENT:
            return _ABSENT
    return value


def _matching(
    items: list[Any], test: tuple[str, frozenset[str]], rest: Steps
) -> "tuple[Any, ...] | _Wrong":
    key, wanted = test
    for item in items:
        if not isinstance(item, Mapping):
            return _Wrong(f"an item told by its {key} is {_kind(item)}, not an object")
    values = (_walk(item, rest) for item in items if str(item.get(key)) in wanted)
    return tuple(value for value in values if value is not _ABSENT and value is not None)


def _first(raw: Mapping[str, Any], path: Path) -> Any:
    for steps in path:
        value = _walk(raw, steps)
        if value is not _ABSENT and not isinstance(value, _Wrong):
            return value
    return _ABSENT


def _items(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, Mapping))


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__


def _show(value: object) -> str:
    """A value for a person, never a long one: it may hold anything."""
    if isinstance(value, str | list | dict):
        return f"a {_kind(value)}"
    return repr(value)[:24]


@frozen(kw_only=True)
class TierRules:
    """Which fields of the usage object tell the service tier, and which values are no tier."""

    fields: tuple[str, ...] = ("service_tier",)
    standard: frozenset[str] = frozenset({"default", "auto", "standard"})
    rename: Mapping[str, str]


def served_tier(rules: TierRules, raw: Mapping[str, Any] | None, told: str = "") -> str:
    """The tier that an answer was served at, "" for the standard one.

    `told` is what the answer says outside its usage. Two tiers at once are joined by `+`: no
    price row has such a name, so they make the cost inexact instead of wrong.
    """
    values = [told]
    if isinstance(raw, Mapping) and any(map(raw.get, rules.fields)):
        values += [str(raw[name]) for name in rules.fields if isinstance(raw.get(name), str | int)]
    if not any(values):
        return ""
    tiers = (rules.rename.get(value.lower(), value.lower()) for value in values)
    return "+".join(dict.fromkeys(t for t in tiers if t and t not in rules.standard))
