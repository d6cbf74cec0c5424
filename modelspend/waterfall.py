"""One cell of a reconciliation, step by step from our figures to theirs.

Hides the order, which matters: what was never priced here is priced as they do, then tiers, then
kinds of input tokens are moved to where they have them, then tokens are added or taken away; only
then can a price be compared, and last comes what is finer than they write. A file of costs says no
tokens: there a step is taken only where it explains what is left.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, get_args

Cause = Literal[
    "missing_here", "missing_there", "unpriced", "cache_class", "tier", "price_change",
    "rounding", "time_zone", "unknown",
]  # fmt: skip
CAUSES: tuple[Cause, ...] = get_args(Cause)

Key = tuple[str, str]
"""(service tier, bucket)"""

Rates = Callable[[int, str, str, str], int | None]
"""(instant, model, tier, bucket) → pico-dollars apiece, where a price is known."""

ALL = "*"
"""The bucket of a charge for all kinds of tokens at once."""


INPUT = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
"""The buckets that a prompt's tokens may be counted in: caches move them from one to another."""


@dataclass(slots=True, kw_only=True)
class Cell:
    """One day of one model: what they charge, what we have, and why the two differ."""

    start_ms: int
    model: str
    theirs_pico: int = 0
    ours_pico: int = 0
    causes: dict[Cause, int] = field(default_factory=dict)
    calls: int = 0
    unpriced: int = 0

    @property
    def gap_pico(self) -> int:
        return self.theirs_pico - self.ours_pico

    def blame(self, cause: Cause, pico: int) -> None:
        """That much of the gap is for this cause."""
        if pico:
            self.causes[cause] = self.causes.get(cause, 0) + pico


@dataclass(slots=True)
class Side:
    """One key of a cell on one side; `unit` is the price of most of it."""

    cost: int = 0
    quantity: int | None = None
    unpriced: int = 0
    listed: int | None = None
    rows: int = 0
    units: dict[int, int] = field(default_factory=dict)

    @property
    def unit(self) -> int | None:
        """The price of most of it."""
        if not self.units:
            return None
        return max(self.units, key=lambda unit: (self.units[unit], -unit))


@dataclass(slots=True)
class Sheet:
    """A cell in the making: both sides by key, and what is left over for neighbouring days."""

    cell: Cell
    theirs: dict[Key, Side] = field(default_factory=dict)
    ours: dict[Key, Side] = field(default_factory=dict)
    step: int = 1
    requests: int | None = None
    calls: int = 0
    unknown_calls: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    left: list["Left"] = field(default_factory=list)


@dataclass(slots=True)
class Left:
    """What one key of a cell is short of, or has too much: for the day before or after."""

    key: Key
    cause: Cause
    pico: int
    quantity: int | None
    slack: int


def explain(sheet: Sheet, rates: Rates) -> int:
    """Blame every part of a cell's gap on a cause, or leave it to the days beside it; how many of
    their tokens nobody knows a price of."""
    work = _Work(sheet, rates)
    work.value_usage()
    if not sheet.theirs or not sheet.ours:
        work.one_side()
    elif set(sheet.theirs) == {("", ALL)}:
        work.lumped()
    else:
        work.unpriced()
        work.tiers()
        work.caches()
        work.quantities()
        work.prices()
    return work.unvalued


@dataclass(slots=True)
class _Work:
    sheet: Sheet
    rates: Rates
    unvalued: int = 0

    # What a file of usage is worth.

    def value_usage(self) -> None:
        """Their tokens at our price where the file says no dollars."""
        for key, side in self.sheet.theirs.items():
            if side.rows or not side.quantity:
                continue
            unit = self._unit(key, of_theirs=False)
            if unit is None:
                self.unvalued += side.quantity
                continue
            side.cost = side.quantity * unit
            self.sheet.cell.theirs_pico += side.cost

    def _unit(self, key: Key, *, of_theirs: bool = True) -> int | None:
        """What one is worth: at our price, at the known one, or as they charge."""
        ours = self.sheet.ours.get(key)
        if ours is not None and ours.unit is not None:
            return ours.unit
        cell = self.sheet.cell
        known = self.rates(cell.start_ms, cell.model, *key)
        if known is not None or not of_theirs:
            return known
        theirs = self.sheet.theirs.get(key)
        if theirs is not None and theirs.quantity and theirs.rows:
            return _nearest(Fraction(theirs.cost, theirs.quantity))
        return None

    # A cell that only one side knows, or that they know as one sum.

    def one_side(self) -> None:
        for key, side in self.sheet.theirs.items():
            self._leave(key, "missing_here", side.cost, side.quantity)
        for key, side in self.sheet.ours.items():
            self._leave(key, "missing_there", -side.cost, -(side.quantity or 0))

    def lumped(self) -> None:
        sheet = self.sheet
        apart = sheet.theirs["", ALL].cost - sum(side.cost for side in sheet.ours.values())
        sheet.cell.blame(self._why_lumped(apart), apart)

    def _why_lumped(self, apart: int) -> Cause:
        sheet = self.sheet
        if abs(apart) <= Fraction(sheet.step * sheet.theirs["", ALL].rows, 2):
            return "rounding"
        if sheet.unknown_calls or any(side.unpriced for side in sheet.ours.values()):
            return "unpriced"
        if sheet.requests not in (None, sheet.calls):
            more = (sheet.requests or 0) > sheet.calls
            return (
                "missing_here" if more and apart > 0 else "missing_there" if not more else "unknown"
            )
        prompt = sum(side.quantity or 0 for (_, b), side in sheet.ours.items() if b in INPUT)
        output = sum(s.quantity or 0 for (_, b), s in sheet.ours.items() if b == "output_tokens")
        caches = any(b in INPUT[1:] for _, b in sheet.ours)
        same = sheet.tokens == {"prompt": prompt, "output": output}
        return "price_change" if same and not caches else "unknown"

    # A cell that both know by buckets.

    def unpriced(self) -> None:
        """What we counted and could not price, as they price it."""
        for key, ours in self.sheet.ours.items():
            if not ours.unpriced:
                continue
            theirs = self.sheet.theirs.get(key) or self._other_tier(key)
            if theirs is None:
                continue
            if theirs.quantity:
                priced = (ours.quantity or 0) - ours.unpriced
                share = min(max(theirs.quantity - priced, 0), ours.unpriced)
                ours.quantity = priced + share  # the others were not billed, for all we know
                amount = _nearest(Fraction(theirs.cost * share, theirs.quantity))
                unit = _nearest(Fraction(theirs.cost, theirs.quantity))
            else:
                amount = theirs.cost - ours.cost
                unit = _nearest(Fraction(amount, ours.unpriced))
            self.sheet.cell.blame("unpriced", amount)
            ours.cost += amount
            ours.units[unit] = ours.units.get(unit, 0) + ours.unpriced

    def _other_tier(self, key: Key) -> Side | None:
        found = [side for (_, bucket), side in self.sheet.theirs.items() if bucket == key[1]]
        return found[0] if len(found) == 1 else None

    def tiers(self) -> None:
        """The same tokens, served at another tier than we know."""
        for bucket in sorted({bucket for _, bucket in (*self.sheet.theirs, *self.sheet.ours)}):
            if self._counted(bucket):
                keys = [key for key in self._keys() if key[1] == bucket]
                for there, here, count in self._moves(keys):
                    was, now = self._unit(here), self._charged(there)
                    if was is not None and now is not None:
                        amount = _nearest((now - was) * count)
                        self._move(here, there, count, was)
                        self._add(there, "tier", 0, amount)
            else:
                self._tier_of_costs(bucket)

    def _tier_of_costs(self, bucket: str) -> None:
        theirs = {key: side for key, side in self.sheet.theirs.items() if key[1] == bucket}
        ours = {key: side for key, side in self.sheet.ours.items() if key[1] == bucket}
        there, here = theirs.keys() - ours.keys(), ours.keys() - theirs.keys()
        if not there or not here:
            return
        total = sum(theirs[key].cost for key in there)
        self.sheet.cell.blame("tier", total - sum(ours[key].cost for key in here))
        for key in here:
            del self.sheet.ours[key]
        for key in there:
            self.sheet.ours[key] = Side(cost=theirs[key].cost, quantity=theirs[key].quantity)

    def caches(self) -> None:
        """The same prompt tokens, of which a cache gave or took others than we know."""
        for tier in sorted({tier for tier, _ in self._keys()}):
            keys = [(tier, bucket) for bucket in INPUT]
            if all(self._counted(bucket) for bucket in INPUT):
                for there, here, count in self._moves(keys):
                    was, now = self._unit(here), self._unit(there)
                    if was is not None and now is not None:
                        self._move(here, there, count, was)
                        self._add(there, "cache_class", 0, (now - was) * count)
            else:
                self._caches_of_costs(keys)

    def _caches_of_costs(self, keys: list[Key]) -> None:
        """Dollars say no tokens; but at our prices they must come to the same number of them."""
        apart = {key: self._apart(key) for key in keys}
        off = {key: pico for key, pico in apart.items() if abs(pico) > self._slack(key)}
        if min(off.values(), default=0) >= 0 or max(off.values(), default=0) <= 0:
            return
        units = {key: self._unit(key) for key in off}
        if not all(units.values()):
            return
        tokens = sum((Fraction(pico, units[key] or 1) for key, pico in off.items()), Fraction())
        slack = sum((self._slack(key) / (units[key] or 1) for key in off), Fraction())
        if abs(tokens) <= slack:
            for key, pico in off.items():
                self._add(key, "cache_class", 0, pico)

    def quantities(self) -> None:
        """More tokens there than here, or fewer."""
        for key in self._keys():
            theirs, ours = self.sheet.theirs.get(key), self.sheet.ours.get(key)
            if not self._counted(key[1]):
                continue
            more = _quantity(theirs) - _quantity(ours)
            unit = self._unit(key) if ours is not None else None
            if more and unit is None and theirs is not None and ours is None:
                self._leave(key, self._extra(), theirs.cost, more)
                self.sheet.ours[key] = Side(cost=theirs.cost, quantity=theirs.quantity)
            elif more and unit is not None:
                cause = self._extra() if more > 0 else "missing_there"
                self._leave(key, cause, more * unit, more)
                self._add(key, None, more, more * unit)

    def _extra(self) -> Cause:
        """What more there than here comes of: a call whose usage we never learnt, or no call."""
        return "unpriced" if self.sheet.unknown_calls else "missing_here"

    def prices(self) -> None:
        """What is left is a matter of price, where the tokens are the same."""
        alike = self._same_ratio()
        for key in self._keys():
            apart, cell = self._apart(key), self.sheet.cell
            theirs = self.sheet.theirs.get(key)
            if abs(apart) <= self._slack(key):
                cell.blame("rounding", apart)
                continue
            if theirs is not None and theirs.listed not in (None, theirs.cost):
                discount = theirs.cost - (theirs.listed or 0)
                cell.blame("price_change", discount)
                apart -= discount
                if abs(apart) <= self._slack(key):
                    cell.blame("rounding", apart)
                    continue
            if self._counted(key[1]) or alike:
                cell.blame("price_change", apart)
            else:
                self._leave(key, self._why_costs(key, apart), apart, None)

    def _why_costs(self, key: Key, apart: int) -> Cause:
        if key not in self.sheet.ours:
            return self._extra()
        if key not in self.sheet.theirs:
            return "missing_there"
        return "unpriced" if self.sheet.unknown_calls and apart > 0 else "unknown"

    def _same_ratio(self) -> bool:
        """Whether two or more buckets are dearer (or cheaper) by one factor: another price list."""
        low, high, factors = Fraction(0), Fraction(10**9), 0
        for key in self._keys():
            theirs, ours = self.sheet.theirs.get(key), self.sheet.ours.get(key)
            if theirs is None or ours is None or ours.cost <= 0:
                return False
            slack = self._slack(key)
            low = max(low, (theirs.cost - slack) / ours.cost)
            high = min(high, (theirs.cost + slack) / ours.cost)
            factors += abs(theirs.cost - ours.cost) > slack
        return factors > 1 and low <= high

    # What the steps share.

    def _keys(self) -> list[Key]:
        return sorted(self.sheet.theirs.keys() | self.sheet.ours.keys())

    def _counted(self, bucket: str) -> bool:
        """Whether they say how many, in every row of a bucket."""
        return all(
            side.quantity is not None
            for (_, name), side in self.sheet.theirs.items()
            if name == bucket
        ) and any(side.quantity is not None for side in self.sheet.theirs.values())

    def _charged(self, key: Key) -> Fraction | None:
        side = self.sheet.theirs.get(key)
        return Fraction(side.cost, side.quantity) if side and side.quantity else None

    def _apart(self, key: Key) -> int:
        theirs, ours = self.sheet.theirs.get(key), self.sheet.ours.get(key)
        return (theirs.cost if theirs else 0) - (ours.cost if ours else 0)

    def _slack(self, key: Key) -> Fraction:
        """What rounding of what they write may come to."""
        theirs = self.sheet.theirs.get(key)
        return Fraction(self.sheet.step * max(theirs.rows if theirs else 1, 1), 2)

    def _moves(self, keys: list[Key]) -> Iterator[tuple[Key, Key, int]]:
        """(where they have more, where we have more, how many), until one of them has no more."""
        more = {
            key: _quantity(self.sheet.theirs.get(key)) - _quantity(self.sheet.ours.get(key))
            for key in keys
        }
        for there in keys:
            for here in keys:
                count = min(more[there], -more[here])
                if count > 0:
                    more[there] -= count
                    more[here] += count
                    yield there, here, count

    def _move(self, here: Key, there: Key, count: int, unit: int) -> None:
        """Take tokens of ours to another key at the price that they had."""
        self._add(here, None, -count, -count * unit)
        self._add(there, None, count, count * unit)

    def _add(self, key: Key, cause: Cause | None, quantity: int, pico: int) -> None:
        side = self.sheet.ours.setdefault(key, Side(quantity=0))
        side.quantity = (side.quantity or 0) + quantity
        side.cost += pico
        if cause is not None:
            self.sheet.cell.blame(cause, pico)

    def _leave(self, key: Key, cause: Cause, pico: int, quantity: int | None) -> None:
        """For this cause, unless the day beside it has just as much too much."""
        slack = _nearest(self._slack(key))
        self.sheet.left.append(Left(key, cause, pico, quantity, slack))


def _quantity(side: Side | None) -> int:
    return side.quantity or 0 if side is not None else 0


def _nearest(exact: Fraction | int) -> int:
    return round(exact)
