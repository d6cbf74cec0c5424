"""The model behind `forecast`: where a daily cost goes, and how far off that has been before.

The level is a blend of a few simple views of the past (the mean of the last 1, 4, 13 and 52 weeks,
one that forgets half of it in 2 days, a trend that dies away, the same weeks of last year),
each weighted by how well it told the cost of past weeks and months. Every past day is an origin
from which that blend, made of what was known then, forecasts the totals of the next 7 to 90 days;
the errors of those totals, not of days, make the bands. Windows that long fit few times into a
history, so the size of their errors is drawn towards what shorter windows show, grown by the rate
at which errors grow with the horizon here, and fewer windows mean a wider Student's t.

A day far beyond all before it is cut down first, until one comes again. Errors are measured as
2 (sqrt(actual / forecast) - 1): like a logarithm near 1, but a day without cost is no infinity and
a doubling does not promise an eightfold. All is relative to the series' own size; nothing here
knows what a dollar is.
"""

import math
from collections.abc import Sequence

from modelspend import student
from modelspend.record import frozen

WINDOWS = (7, 14, 30, 60, 90)
"""The lengths in days of the totals whose errors are followed."""

_MEANS = (7, 28, 91, 364)  # days over which a level is taken: whole weeks, each about 4 times more
_FADING = 0.5 ** (1 / 2.0)  # of a day's weight in the fading mean, per day: half is gone after two
_FADED = 28  # days after which all is
_YEAR = 364
_DAMPING = 0.97  # of a trend, per day: half is gone after 23 days
_STEEPEST = 0.05  # of a trend, per day
_WEIGHTS_FALL = 2.0  # a view that is twice as far off weighs a quarter
_VIEWS_ALIKE = 2.0  # windows' worth of belief that the views are equally good
_FLOOR = 0.1  # of the mean day, added to both sides of a ratio: small against small is no news

_WARM_UP = 28  # days before the first origin whose errors count
_SIZE_BELIEF = 12.0  # windows' worth of belief in what shorter windows show
_GROWTH = 0.42  # expected growth of errors: between a mean that stays (0) and one that walks (0.5)
_GROWTH_BELIEF = 60.0
_GROWTH_RANGE = (-0.5, 1.0)
_SHARE_OF_DAYS = 1.5  # the error of a week's total beside that of its days, before any is known
_USUAL_SIZE = 0.2  # of the error of a week's total, where days vary more than that
_DAYS_BELIEF = 3.0  # days' worth of belief in that
_LEAST_SIZE = 0.002
_FREEDOM = 3.0  # and one more for each window that was seen,
_MOST_FREEDOM = 5.0  # and never more: habits change, however long they were watched

_CALM_MEAN, _CALM_MOST = 28, 91  # days before one, by whose mean and most it is cut
_CALM_TIMES = 10  # that mean

_DAYS_RECENT = 182
_PATTERN_WEEKS = 12


@frozen
class Spread:
    """How far off the total of so many days may be: the scale and degrees of freedom of a t."""

    scale: float
    freedom: float

    def factor(self, p: float) -> float:
        """What the total is multiplied by, so that it stays below with probability `p`."""
        return _ratio(self.scale * student.quantile(p, self.freedom))

    def probability_below(self, factor: float) -> float:
        """The probability that the total is at most `factor` times what is forecast."""
        if self.scale <= 0:
            return float(factor >= 1)
        return student.below(_error(factor) / self.scale, self.freedom)


@frozen
class View:
    """What is known at one origin: the cost of the days that follow and how far off it may be."""

    days: tuple[float, ...]
    week: tuple[float, ...]
    spreads: tuple[Spread, ...]
    day_errors: tuple[float, ...]

    def spread(self, days: int) -> Spread:
        """That of the total of the first so many days, between those of the windows."""
        known = list(zip(WINDOWS, self.spreads, strict=True))
        if days <= 1:
            return self._of_a_day()
        before, short = (1, self._of_a_day())
        for after, long in known:
            if days <= after:
                share = math.log(days / before) / math.log(after / before)
                return Spread(
                    short.scale + share * (long.scale - short.scale),
                    short.freedom + share * (long.freedom - short.freedom),
                )
            before, short = after, long
        return short

    def day_factor(self, day: int, p: float) -> float:
        """What the cost of one day ahead is multiplied by, to be above it with probability `p`.

        The errors of single days as they were, and how far the level may have moved by then.
        """
        own = _at(self.day_errors, p)
        moved = self.spread(max(day, WINDOWS[0]))
        moved_by = moved.scale * student.quantile(p, moved.freedom)
        apart = own * own + moved_by * moved_by if own * moved_by > 0 else own * own
        return _ratio(math.copysign(math.sqrt(apart), p - 0.5))

    def _of_a_day(self) -> Spread:
        """As wide as the errors of single days, and never less wide than a week's."""
        week = self.spreads[0]
        mean = sum(map(abs, self.day_errors)) / max(len(self.day_errors), 1)
        return Spread(max(mean / student.mean_size(week.freedom), week.scale), week.freedom)


class Past:
    """A daily series, gone through once; `at` then tells what was known at any of its origins."""

    def __init__(
        self,
        costs: Sequence[int],
        first_weekday: int,
        weeks: dict[int, tuple[float, ...]] | None = None,
    ) -> None:
        self._told, self._costs = costs, _calmed(costs)
        self._first_weekday = first_weekday
        self._sums = [0]
        for cost in self._costs:
            self._sums.append(self._sums[-1] + cost)
        n = len(costs)
        self._start = min(_WARM_UP, n // 2)
        self._day_errors = [self._day_error(day) for day in range(7, n)]
        self._errors: list[list[float]] = []  # by window: running sums of the sizes of errors
        self._weights: list[tuple[float, ...]] = []  # by origin
        self._weeks = {} if weeks is None else weeks  # by origin, whatever comes after it
        self._follow()

    def at(self, origin: int, ahead: int = WINDOWS[-1]) -> View:
        """What is known before day `origin`, which needs two days at least, of so many ahead."""
        if origin < 2 * _WARM_UP and origin < len(self._told):  # a shorter warm-up
            earlier = Past(self._told[:origin], self._first_weekday, self._weeks)
            return earlier.at(origin, ahead)
        week = self._week(origin)
        levels = self._path(origin, ahead)
        weekday = self._first_weekday + origin
        days = tuple(level * week[(weekday + n) % 7] for n, level in enumerate(levels))
        recent = self._day_errors[max(0, origin - 7 - _DAYS_RECENT) : max(0, origin - 7)]
        return View(days, week, self._spreads(origin), tuple(sorted(recent)) or (0.0,))

    def _follow(self) -> None:
        """Forecast from every origin, and learn from each total when it is complete."""
        n = len(self._costs)
        lost = [[0.0, 0.0] for _ in range(len(_MEANS) + 3)]  # errors, how many
        made: dict[tuple[int, int], tuple[float, list[float | None], float]] = {}
        self._errors = [[0.0] for _ in WINDOWS]
        for origin in range(self._start, n + 1):
            for sums, window in zip(self._errors, WINDOWS, strict=True):
                done = made.pop((origin - window, window), None)
                if done is None:
                    continue
                level, views, floor = done
                actual = self._mean(origin, window) + floor
                for tally, view in zip(lost, views, strict=True):
                    if view is not None:
                        tally[0] += abs(math.log(actual) - view)
                        tally[1] += 1
                sums.append(sums[-1] + abs(_error(actual / level)))
            weights = _weights(lost)
            self._weights.append(weights)
            floor = self._floor(origin)
            if floor == 0:
                continue  # nothing has been spent yet
            levels, trend = self._levels(origin, floor), self._trend(origin, floor)
            blend = _Blend(levels, weights)
            for window in WINDOWS:
                if origin + window <= n:
                    moved = trend.moved((window + 1) / 2)
                    last_year = self._last_year(origin, 0, window, floor)
                    level = math.exp(blend.beside(moved, last_year))
                    made[origin, window] = (level, [*levels, moved, last_year], floor)

    def _levels(self, origin: int, floor: float) -> list[float]:
        """The logarithms of the means; of the fading one each day is a share of its weekday's."""
        week, weight = self._week(origin), 1.0
        cost = usual = 0.0
        for day in range(origin - 1, max(0, origin - _FADED) - 1, -1):
            cost += weight * self._costs[day]
            usual += weight * week[(self._first_weekday + day) % 7]
            weight *= _FADING
        means = [self._mean(origin, days) for days in _MEANS]
        return [math.log(mean + floor) for mean in (*means, cost / usual if usual else 0.0)]

    def _path(self, origin: int, days: int) -> list[float]:
        """The level of each day ahead, before its weekday."""
        floor, weights = self._floor(origin), self._weights[origin - self._start]
        if floor == 0:
            return [0.0] * days
        base, trend = self._mean(origin, 28) + floor, self._trend(origin, floor)
        blend = _Blend(self._levels(origin, floor), weights)
        path = []
        for day in range(days):
            end = min(day + 4, WINDOWS[-1])
            last_year = self._last_year(origin, max(0, day - 3), end, floor)
            level = blend.beside(trend.moved(day + 1), last_year)
            path.append(max(0.0, base * math.exp(level - math.log(base)) - floor))
        return path

    def _trend(self, origin: int, floor: float) -> "_Trend":
        """The last four weeks and what they gained a day on the four before."""
        now = self._mean(origin, 28) + floor
        if origin < 56:
            return _Trend(math.log(now), 0.0)
        before = (self._sums[origin - 28] - self._sums[origin - 56]) / 28 + floor
        slope = max(-_STEEPEST, min(_STEEPEST, math.log(now / before) / 28))
        return _Trend(math.log(now), slope)

    def _last_year(self, origin: int, begin: int, end: int, floor: float) -> float | None:
        """The same days of last year, moved half-way to where this year stands."""
        then = origin - _YEAR
        if then < 28:
            return None
        same = (self._sums[then + end] - self._sums[then + begin]) / (end - begin) + floor
        year_on_year = (self._mean(origin, 28) + floor) / (self._mean(then, 28) + floor)
        return math.log(same) + math.log(year_on_year) / 2

    def _mean(self, origin: int, days: int) -> float:
        days = min(days, origin)
        return (self._sums[origin] - self._sums[origin - days]) / days

    def _floor(self, origin: int) -> float:
        return _FLOOR * max(self._mean(origin, _YEAR), self._mean(origin, origin) / 100)

    def _day_error(self, day: int) -> float:
        """Of one day, against the same weekday of the weeks before."""
        same = [self._costs[day - back] for back in (7, 14, 21, 28) if back <= day]
        floor = self._floor(day)
        if floor == 0:
            return 0.0
        return _error((self._costs[day] + floor) / (sum(same) / len(same) + floor))

    def _spreads(self, origin: int) -> tuple[Spread, ...]:
        """Window by window: what was seen, drawn towards what the shorter one leads to expect."""
        seen_days = self._day_errors[: max(0, origin - 7)]
        usual = _SHARE_OF_DAYS * sum(map(abs, seen_days)) + _DAYS_BELIEF * _USUAL_SIZE
        expected = min(_USUAL_SIZE, usual / (len(seen_days) + _DAYS_BELIEF))
        growth, belief = _GROWTH * _GROWTH_BELIEF, _GROWTH_BELIEF
        found: list[Spread] = []
        before, size = WINDOWS[0], expected
        for window, sums in zip(WINDOWS, self._errors, strict=True):
            expected = size * (window / before) ** (growth / belief)
            count = max(0, min(len(sums) - 1, origin - window - self._start + 1))
            windows = count / window
            if count and window > before:
                step = math.log((sums[count] / count + 1e-3) / (size + 1e-3))
                slope = max(
                    _GROWTH_RANGE[0], min(_GROWTH_RANGE[1], step / math.log(window / before))
                )
                growth, belief = growth + windows * slope, belief + windows
            size = (sums[count] / window + _SIZE_BELIEF * expected) / (windows + _SIZE_BELIEF)
            size = max(size, _LEAST_SIZE)
            freedom = min(_FREEDOM + round(4 * windows) / 4, _MOST_FREEDOM)
            found.append(Spread(size / student.mean_size(freedom), freedom))
            before = window
        return tuple(found)

    def _week(self, origin: int) -> tuple[float, ...]:
        """What each weekday (Monday first) costs beside the mean day; they add up to 7."""
        found = self._weeks.get(origin)
        if found is None:
            found = self._weeks[origin] = self._week_before(origin)
        return found

    def _week_before(self, origin: int) -> tuple[float, ...]:
        shares: list[list[float]] = [[] for _ in range(7)]
        weeks = min(_PATTERN_WEEKS, origin // 7)
        for week in range(weeks):
            begin = origin - 7 * (week + 1)
            mean = (self._sums[begin + 7] - self._sums[begin]) / 7
            for day in range(begin, begin + 7):
                weekday = (self._first_weekday + day) % 7
                shares[weekday].append(self._costs[day] / mean if mean else 1.0)
        means = [_trimmed(each) for each in shares]
        trust = _trust(means, shares)
        raw = [1 + trust * (each - 1) for each in means]
        total = sum(raw)
        return tuple(7 * each / total for each in raw)


def _calmed(costs: Sequence[int]) -> list[int]:
    """The days, one that is beyond all that came before it cut down: a single bill is no level.

    It is believed when it comes again, and a level that stays is from the next day on.
    """
    found, total = [], 0
    for day, cost in enumerate(costs):
        days = min(day, _CALM_MEAN)
        if days >= 7 and total:
            before = max(costs[max(0, day - _CALM_MOST) : day])
            cost = min(cost, max(_CALM_TIMES * total // days, 2 * before))
        found.append(cost)
        total += costs[day] - (costs[day - _CALM_MEAN] if day >= _CALM_MEAN else 0)
    return found


def _trust(means: Sequence[float], shares: Sequence[Sequence[float]]) -> float:
    """How much of the difference between weekdays is more than chance (James and Stein)."""
    apart = sum((mean - 1) ** 2 for mean in means)
    within = sum(
        sum((share - mean) ** 2 for share in each) / (len(each) - 1) / len(each)
        for mean, each in zip(means, shares, strict=True)
        if len(each) > 1
    )
    return max(0.0, 1 - within / apart) if apart else 0.0


def _weights(lost: list[list[float]]) -> tuple[float, ...]:
    errors, count = (sum(column) for column in zip(*lost, strict=True))
    usual = errors / count if count else 0.2
    belief = _VIEWS_ALIKE * WINDOWS[-1]
    return tuple(
        math.pow((error + usual * belief) / (n + belief) + 1e-9, -_WEIGHTS_FALL)
        for error, n in lost
    )


class _Blend:
    """The weighted mean of views, of which the last two are another for each day ahead.

    Taken from the second view, so that views which agree stay exact.
    """

    def __init__(self, levels: Sequence[float], weights: Sequence[float]) -> None:
        self._anchor = levels[1]
        *fixed, self._of_trend, self._of_last_year = weights
        self._weight = sum(fixed)
        self._sum = sum((v - self._anchor) * w for v, w in zip(levels, fixed, strict=True))

    def beside(self, trend: float, last_year: float | None) -> float:
        total = self._sum + (trend - self._anchor) * self._of_trend
        weight = self._weight + self._of_trend
        if last_year is not None:
            total += (last_year - self._anchor) * self._of_last_year
            weight += self._of_last_year
        return self._anchor + total / weight


@frozen
class _Trend:
    """A level, as a logarithm, that moves on by a slope which dies away."""

    now: float
    slope: float

    def moved(self, days: float) -> float:
        if not self.slope:
            return self.now
        reach = 14 + days  # from the middle of the four weeks
        return self.now + self.slope * _DAMPING * (1 - math.pow(_DAMPING, reach)) / (1 - _DAMPING)


def _error(ratio: float) -> float:
    return 2 * (math.sqrt(ratio) - 1)


def _ratio(error: float) -> float:
    """The ratio of which `_error` makes this; an error below -2 is a total of nothing."""
    return math.pow(max(0.0, 1 + error / 2), 2)


def _trimmed(values: list[float]) -> float:
    """The mean without the greatest and the least, where there are enough."""
    kept = sorted(values)[1:-1] if len(values) >= 5 else values
    return sum(kept) / len(kept)


def _at(values: Sequence[float], p: float) -> float:
    """The empirical quantile of sorted values."""
    place = p * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])
