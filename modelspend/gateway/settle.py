"""From what was seen to what it cost: usage, price, receipt, and the durable write.

Nothing here may lose a receipt: the write is queued before the first time this code gives way, or
runs in a task of its own that no client can cancel.
"""

import asyncio

from modelspend import tasks
from modelspend.catalog import usage as usage_rules
from modelspend.catalog.prices import MISSING, PriceBook
from modelspend.errors import LedgerUnavailable
from modelspend.estimate import Estimator
from modelspend.gateway.call import Call, Try
from modelspend.money import NO_COST, Cost, Price
from modelspend.receipt import Delivery, Status, Usage
from modelspend.settings import Settings
from modelspend.store import Bodies, Store

_FREE_OF_CHARGE = Cost(total_pico=0)
_KEEP_UP_TO = 8 * 1024 * 1024
