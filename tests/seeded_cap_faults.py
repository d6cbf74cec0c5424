"""Deliberately broken variants of the caps; see `seeded_faults` for what a variant is."""

from tests.seeded_faults import fault

AT_ONCE = "tests/gateway/test_caps.py"
LEDGER = "tests/store/test_budgets.py"
MODEL = "tests/store/test_caps_model.py"
WHOLE = "tests/gateway/test_budgets.py"
SLICED = "tests/gateway/test_slices.py"
KILLED = "tests/chaos/test_caps.py"

CAP_FAULTS = (
    fault(
        "a sum is read first and written later",
        (AT_ONCE,),
        "gateway/life.py",
        "            await self.store.calls.begin(call.intent(), holds)\n",
        "            stand = await self.store.budgets.usage(\n"
        "                [each.budget for each in holds], call.created_at_ms)\n"
        "            for hold, one in zip(holds, stand):\n"
        "                if hold.amount_pico > (one.left_pico or 0):\n"
        "                    raise BudgetExceeded('no room')\n"
        "            from dataclasses import replace\n"
        "            holds = tuple(\n"
        "                replace(h, budget=replace(h.budget, cap_pico=None)) for h in holds)\n"
        "            await self.store.calls.begin(call.intent(), holds)\n",
    ),
    fault(
        "what is held does not count",
        (AT_ONCE, LEDGER, MODEL),
        "store/holds.py",
        '" coalesce(sum((s.spent_pico & 4294967295) + (s.held_pico & 4294967295)), 0)"',
        '" coalesce(sum(s.spent_pico & 4294967295), 0)"',
    ),
    fault(
        "what is spent does not count",
        (AT_ONCE, MODEL, WHOLE),
        "store/holds.py",
        '" coalesce(sum((s.spent_pico & 4294967295) + (s.held_pico & 4294967295)), 0)"',
        '" coalesce(sum(s.held_pico & 4294967295), 0)"',
    ),
    fault(
        "a cap admits one pico-dollar more",
        (LEDGER,),
        "store/holds.py",
        "(cap - hold.amount_pico if cap else -1)",
        "(cap - hold.amount_pico + 1 if cap else -1)",
    ),
    fault(
        "a budget that has room holds, though another has none",
        (LEDGER, MODEL),
        "store/holds.py",
        ' SELECT budget, start, 0, amount FROM wanted WHERE NOT EXISTS (SELECT 1 FROM used"\n'
        '        " WHERE (high',
        ' SELECT budget, start, 0, amount FROM wanted WHERE EXISTS (SELECT 1 FROM used"\n'
        '        " WHERE NOT (high',
    ),
    fault(
        "a settled call gives nothing back",
        (AT_ONCE, LEDGER, MODEL, KILLED),
        "store/holds.py",
        "SET held_pico = held_pico - ? WHERE",
        "SET held_pico = held_pico - 0 * ? WHERE",
    ),
    fault(
        "a settled call is not charged",
        (AT_ONCE, LEDGER, MODEL, KILLED),
        "store/calls.py",
        "    if more.charges:\n",
        "    if False:\n",
    ),
    fault(
        "a call that nobody settled is not charged",
        (LEDGER, MODEL, KILLED),
        "store/calls.py",
        "        charge_interrupted(book, intent, _drop_intent(book, receipt_id))\n",
        "        _drop_intent(book, receipt_id)\n",
    ),
    fault(
        "what a dead process held is held on",
        (KILLED,),
        "server/app.py",
        "await store.calls.recover(",
        "(lambda now_ms: None)(",
    ),
    fault(
        "a hop holds nothing",
        (AT_ONCE,),
        "gateway/purse.py",
        "            holds,\n            hold_pico=one.hold_pico,\n",
        "            (),\n            hold_pico=one.hold_pico,\n",
    ),
    fault(
        "a hop gives back what may be billed",
        (AT_ONCE,),
        "gateway/purse.py",
        "if not each.may_be_billed]\n        holds",
        "if True]\n        holds",
    ),
    fault(
        "a hop keeps what was refused unbilled",
        (AT_ONCE,),
        "gateway/purse.py",
        "if not each.may_be_billed]\n        holds",
        "if False]\n        holds",
    ),
    fault(
        "a slice is taken without asking for it",
        (SLICED,),
        "gateway/slices.py",
        "            await self._store.calls.extend(self._receipt_id, one.n, wanted)\n",
        "            pass\n",
    ),
    fault(
        "a sliced stream is not cut at its reserve",
        (SLICED,),
        "gateway/slices.py",
        "        return self._seen > self._granted - self._step\n",
        "        return self._seen > self._granted + self._step\n",
    ),
    fault(
        "an unknown cost is charged as nothing",
        (WHOLE,),
        "gateway/settle.py",
        "one.charged_pico = known if one.sure else max(known, one.hold_pico)",
        "one.charged_pico = known",
    ),
    fault(
        "a call without a limit of its own is held without one",
        (WHOLE, KILLED),
        "worstcase.py",
        "    output = output_tokens * bound.answers + bound.extra_output\n",
        "    output = 0\n",
    ),
    fault(
        "a stream that is not there yet is not cut",
        (WHOLE,),
        "gateway/life.py",
        "if opened.relay is not None and self.brakes.stopped(call):",
        "if False:",
    ),
    fault(
        "a cap that went and came back forgets what is held",
        (LEDGER,),
        "store/budgets.py",
        "        if held:\n            book.budgets",
        "        if False:\n            book.budgets",
    ),
)
