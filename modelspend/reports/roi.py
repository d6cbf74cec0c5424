"""What a ledger knows of savings for `roi`: its last whole days, what they cost and saved.

Days are those of UTC and end yesterday; a ledger that is younger than 30 days gives those it has.
"""

from collections.abc import Sequence

from modelspend.reports.forecast import recent
from modelspend.roi import MONTH_DAYS, Measured
from modelspend.store import DAY_MS, Filter, Store, Sum


async def measured(store: Store, where: Sequence[Filter], now_ms: int) -> Measured:
    """The days that the filters choose, else the last 30. Raises TooLittleHistory."""
    filters, days = await recent(store, where, now_ms, MONTH_DAYS)
    found = {day: one for (day,), one in (await store.days.sums(("day",), *filters)).items()}
    last = max(each.until_ms or now_ms for each in filters) // DAY_MS
    total = sum(found.values(), Sum())
    return Measured(
        cost_pico=total.cost_pico,
        saved=tuple(
            sum(found[day].saved_pico.values()) if day in found else 0
            for day in range(last - days, last)
        ),
        receipts=total.receipts,
        decided=total.decided,
        unknown=total.unknown,
        unpriced=total.unpriced,
    )
