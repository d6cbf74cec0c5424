"""Spending less on the same model: kept answers, shorter prompts, and what a turn leaves behind.

All of it is opt-in or without effect on the call, and none of it may cost one. A reader would not
guess that conversations are only noted from a size on: below it no provider keeps a prompt, so
there is no cache to miss.
"""

from collections.abc import Callable
from dataclasses import replace

from modelspend import answers, conversations, rewrite, savings, segments, tasks
from modelspend.answers import Kept
from modelspend.estimate import Estimator
from modelspend.gateway.call import Call
from modelspend.gateway.conversations import LEAST_CACHED
from modelspend.gateway.headers import strip_key
from modelspend.money import INPUT_BUCKETS, Price
from modelspend.receipt import Rewriting, Status
from modelspend.settings import Settings
from modelspend.store import Advanced, Store

_MIB = 1024 * 1024
_LEAST_BODY = 2 * LEAST_CACHED
"""Bytes of a request below which it cannot have as many tokens as a provider keeps."""


class Thrift:
    """What is tried to make calls cheaper. One for each process."""

    def __init__(
        self, store: Store, estimator: Estimator, settings: Settings, now_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._estimator = estimator
        self._settings = settings
        self._now_ms = now_ms

    def reconfigure(self, settings: Settings) -> None:
        self._settings = settings

    # Kept answers.

    async def kept(self, call: Call, *, bodies_kept: bool) -> Kept | None:
        """The answer to the very same request, where the caller may have it."""
        call.cache = answers.policy(
            self._settings,
            call.caller.tenant,
            call.caller.workflow,
            call.caller.cache,
            bodies_kept=bodies_kept and not call.caller.explain,
        )
        if not call.cache.keep or call.view is None:
            return None
        call.cache_key = answers.key(
            tenant=call.caller.tenant,
            credential=call.caller.key_id,
            dialect=call.request.dialect.name,
            operation=call.view.operation,
            provider=call.target.provider.name,
            model=call.target.model,
            query=strip_key(call.request.query),
            headers=call.request.headers,
            fields=call.view.body,
        )
        if call.cache_key is None or not call.cache.take:
            return None
        return await self._store.answers.get(
            call.cache_key, tenant=call.caller.tenant, now_ms=self._now_ms()
        )

    def take(self, call: Call, kept: Kept) -> None:
        """The call is answered by a kept answer: nothing is sent, and this is what it saves."""
        call.status, call.http_status = Status.CACHED, kept.status
        call.decided(
            replace(
                call.ruling,
                plan=replace(
                    call.ruling.plan,
                    decision=replace(call.ruling.decision, strategy="cached"),
                ),
            )
        )
        call.savings = savings.cached(kept.model, kept.cost_pico)

    def keep(self, call: Call) -> None:
        """Keep the answer of a call whose receipt is durable, if it may be given again."""
        key, body, view = call.cache_key, call.kept_whole(), call.view
        if key is None or body is None or view is None or call.seq is None or not call.tries:
            return
        one, note = call.last, call.last.note
        may = answers.may_keep(
            call.cache,
            dialect=call.request.dialect.name,
            status=call.http_status or 0,
            finish_reason=note.finish_reason,
            tool_calls=answers.calls_tools(body) or bool(note.counts),
            error=note.error is not None or one.status is not Status.SUCCESS,
            truncated=not note.ended,
            content=note.content,
            varies=answers.varies(view.body),
        )
        if not may:
            return
        now = self._now_ms()
        kept = Kept(
            key=key,
            tenant=call.caller.tenant,
            created_at_ms=now,
            expires_at_ms=now + call.cache.ttl_ms,
            dialect=call.request.dialect.name,
            stream=view.stream,
            seq=call.seq,
            receipt_id=call.receipt_id,
            provider=one.target.provider.name,
            model=note.model or one.target.model,
            cost_pico=one.cost.total_pico,
            status=call.http_status or 0,
            headers=answers.kept_headers(call.answer_headers),
            body=body,
        )
        room = self._settings.cache.max_mib * _MIB
        tasks.spawn(self._store.answers.put(kept, room=room), f"keep {call.receipt_id}")

    # Shorter prompts.

    def shorten(self, call: Call) -> None:
        """Take out of the prompt what says nothing, where no provider's cache is broken by it."""
        caller, view = call.caller, call.view
        steps = rewrite.steps_for(self._settings, caller.tenant, caller.workflow)
        if not steps or view is None:
            return
        dialect, cached = call.request.dialect, 0
        if call.so_far is not None:
            masks = conversations.known_masks(call.so_far)
            original = segments.cut(dialect.name, view.body, masks)
            before = conversations.thread_of(call.so_far, original)
            cached = conversations.sent_as_they_are(before, original)
        shorter = rewrite.rewrite(
            call.request.body, view.body, dialect.name, cached_prefix=cached, steps=steps
        )
        if not shorter.steps:
            return
        path = f"{call.request.path}?{call.request.query}"
        chars = dialect.input_chars(view)
        call.says(
            replace(call.request, body=shorter.body),
            dialect.read(path, shorter.body),
            Rewriting(
                steps=shorter.steps,
                tokens_before=self._estimator.input_tokens(chars),
                tokens_after=self._estimator.input_tokens(
                    chars - shorter.chars_before + shorter.chars_after
                ),
            ),
        )

    # What a turn leaves behind.

    async def recall(self, call: Call) -> None:
        """What is known of the conversation so far, asked for before anything is sent."""
        if call.session_id and len(call.request.body) >= _LEAST_BODY:
            call.so_far = await self._store.conversations.of(call.caller.tenant, call.session_id)

    def advanced(self, call: Call, price: Price | None) -> Advanced | None:
        """What the next turn of the conversation must know of this one; None for nothing."""
        view, session, tenant = call.sent_view, call.session_id, call.caller.tenant
        if view is None or not session or not call.tries or len(call.request.body) < _LEAST_BODY:
            return None
        one = call.last
        if one.status is not Status.SUCCESS or one.usage.source != "provider":
            return None
        told = one.usage.quantities
        whole = sum(told.get(bucket, 0) for bucket in INPUT_BUCKETS)
        if whole < LEAST_CACHED or not call.request.dialect.billable:
            return None
        masks = conversations.known_masks(call.so_far)
        return self._store.conversations.advance(
            tenant,
            session,
            dialect=one.target.dialect,
            fields=view.body,
            segments=segments.cut(call.request.dialect.name, view.body, masks),
            provider=one.target.provider.name,
            model=one.target.model,
            at_ms=call.created_at_ms,
            quantities=told,
            rates=None if price is None else price.rates_at(whole),
            so_far=call.so_far,
        )
