"""The table of behaviours: every way in which the simulated provider can be asked to behave.

A model named `sim-` and terms joined by `+` chooses among them: `sim-crlf+cut-5`. Any other name
is a healthy model (with `-reason` at its end it thinks), so priced names work in a demo.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from modelspend.simulator import hostile, shapers
from modelspend.simulator.plan import Asked, Check, Cut, Fault, Hostile, Plan, Shaper, Stall, Step
from modelspend.simulator.terms import Behaviour, read_terms

BEHAVE_HEADER = "x-sim-behave"
"""A request that carries it is treated so, whatever its model: `429-retry-2`, `cut-5`."""

_REASONING_TOKENS = 64
_OVERLOADED = Fault(status=503, message="The simulated model broke off in the middle.")


def plan_for(model: str, told: str | None = None) -> Plan:
    """The plan that a model's name asks for, or the header's terms. Raises UnknownBehaviour."""
    name = f"sim-{told}" if told else model.rsplit("/", 1)[-1]
    if name == "sim":
        return Plan()
    if name.startswith("sim-"):
        return read_terms(name.removeprefix("sim-").split("+"), BEHAVIOURS)
    return Plan(reasoning_tokens=_REASONING_TOKENS if name.endswith("-reason") else 0)


# What rows are made of.


def _always(fault: Fault) -> dict[str, Any]:
    return {"checks": (lambda asked: fault,)}


def _check(check: Check) -> dict[str, Any]:
    return {"checks": (check,)}


def _events(*shapes: Shaper) -> dict[str, Any]:
    return {"events": shapes}


def _stream(change: Callable[[bytes, int], bytes]) -> dict[str, Any]:
    return _events(shapers.of_stream(change))


def _counts(change: Callable[[int], Any]) -> dict[str, Any]:
    return _events(shapers.usage(shapers.numbers(change)))


def _faults(*shapes: Shaper) -> dict[str, Any]:
    return {"faults": shapes}


def _broken_off(after: int, fault: Fault) -> dict[str, Any]:
    return {"faults": (shapers.error(after, fault),), "whole_fault": fault, "ends": "error"}


def _raw(what: Hostile, ends: str = "cut") -> dict[str, Any]:
    return {"hostile": what, "ends": ends}


def _silence(_: bytes) -> Iterator[Step]:
    return iter(())


def _spent(**usage: int) -> dict[str, Any]:
    return {"extra_usage": usage}


def _flap(count: int) -> Check:
    def check(asked: Asked) -> Fault | None:
        return Fault(status=503) if count and asked.turn // count % 2 else None

    return check


def _fail_first(count: int) -> Check:
    return lambda asked: Fault(status=503) if asked.turn < count else None


def _reject_usage_option(asked: Asked) -> Fault | None:
    if "stream_options" not in asked.body:
        return None
    message = "Unknown parameter: 'stream_options'. The simulator was told not to take it."
    return Fault(status=400, message=message, param="stream_options")


def _page(status: int) -> dict[str, Any]:
    html = b"<html><head><title>%d</title></head><body>simulated proxy</body></html>\r\n" % status
    return {"status": status, "content_type": "text/html", "body": html, "ends": "error"}


def _bomb(size: int) -> dict[str, Any]:
    return {"encoding": "gzip", "pieces": (shapers.padded(size),)}


_EVIL_HEADERS = (
    ("Set-Cookie", "session=stolen; Path=/"),
    ("Alt-Svc", 'h3="evil.example:443"; ma=86400'),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("Connection", "X-Hop, keep-alive"),
    ("X-Hop", "named by Connection"),
    ("Keep-Alive", "timeout=1"),
    ("Proxy-Authenticate", "Basic"),
    ("Proxy-Connection", "close"),
    ("TE", "trailers"),
    ("Upgrade", "h2c"),
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Credentials", "true"),
    ("Clear-Site-Data", '"*"'),
    ("Refresh", "0; url=http://evil.example/"),
    ("X-Modelspend-Receipt", "rcpt_FORGED"),
    ("X-Modelspend-Cost-Usd", "0"),
    ("X-Modelspend-Provider", "forged"),
)

_FOREIGN_TEXT = "Grüße, 世界! 🙂 Ünïcödé — naïve café; Ελλάδα 🇬🇷 and 𝄞 end."
_LINE_TEXT = "one\u2028two\u2029three\x0bfour\x1cfive\x85six\r\nseven\rend"


BEHAVIOURS: tuple[Behaviour, ...] = (
    # how it answers
    Behaviour("ok", "answers at once", lambda: {}),
    Behaviour("echo", "answers with the text of the last message", lambda: {"echo": True}),
    Behaviour("reason", "thinks first: 64 reasoning tokens", lambda: {"reasoning_tokens": 64}),
    Behaviour("reason-N", "thinks for N reasoning tokens", lambda n: {"reasoning_tokens": n}),
    Behaviour("tools", "calls a tool when any is offered", lambda: {"tool_calls": 1}),
    Behaviour("tools-N", "calls N tools at once when any is offered", lambda n: {"tool_calls": n}),
    Behaviour("chunks-N", "streams its text in N events", lambda n: {"words": max(1, n)}),
    Behaviour("size-SIZE", "writes so many bytes of text", lambda size: {"size": size}),
    Behaviour(
        "huge-event-SIZE",
        "writes so many bytes of text in one event",
        lambda size: {"size": size, "one_event": True},
    ),
    Behaviour("unicode", "writes letters of 2, 3 and 4 bytes", lambda: {"text": _FOREIGN_TEXT}),
    Behaviour(
        "line-ends", "writes every kind of line end in its text", lambda: {"text": _LINE_TEXT}
    ),
    Behaviour("empty", "writes nothing", lambda: {"text": ""}),
    Behaviour("finish-length", "stops at its output limit", lambda: {"stop": "length"}),
    Behaviour(
        "finish-filter", "is stopped by a content filter", lambda: {"stop": "content_filter"}
    ),
    Behaviour("finish-refusal", "refuses", lambda: {"stop": "refusal"}),
    Behaviour(
        "tier-WORD", "serves in a tier: priority, flex, …", lambda word: _events(shapers.tier(word))
    ),
    Behaviour("batch", "serves in the batch tier", lambda: _events(shapers.tier("batch"))),
    # what it charges
    Behaviour(
        "tokens-IN-OUT",
        "uses exactly IN fresh input and OUT output tokens",
        lambda given, written: {"tokens": (given, written)},
    ),
    Behaviour("cached-N", "reads N tokens from its cache", lambda n: _spent(cache_read_tokens=n)),
    Behaviour(
        "write-N", "writes N tokens to a 5-minute cache", lambda n: _spent(cache_write_5m_tokens=n)
    ),
    Behaviour(
        "write1h-N", "writes N tokens to a 1-hour cache", lambda n: _spent(cache_write_1h_tokens=n)
    ),
    Behaviour("search-N", "makes N web searches", lambda n: _spent(web_searches=n)),
    # what it says it charges
    Behaviour(
        "usage-missing", "reports no usage", lambda: _events(shapers.usage(lambda _: shapers.GONE))
    ),
    Behaviour("usage-null", "reports null usage", lambda: _events(shapers.usage(lambda _: None))),
    Behaviour("usage-negative", "reports negative counts", lambda: _counts(lambda n: -n - 1)),
    Behaviour("usage-huge", "reports counts of 10^18", lambda: _counts(lambda n: 10**18)),
    Behaviour("usage-nan", "reports NaN, which is not JSON", lambda: _counts(shapers.not_a_number)),
    Behaviour("usage-string", "reports counts as strings", lambda: _counts(str)),
    Behaviour("usage-float", "reports counts with a half", lambda: _counts(lambda n: n + 0.5)),
    Behaviour(
        "usage-twice",
        "reports half the usage in the first event, all at the end",
        lambda: _events(shapers.usage_in_first_event(partial=True)),
    ),
    Behaviour(
        "usage-early",
        "reports all usage in the first event, none later",
        lambda: _events(shapers.usage_in_first_event(partial=False)),
    ),
    Behaviour(
        "no-usage-option", "refuses stream_options with a 400", lambda: _check(_reject_usage_option)
    ),
    # how fast
    Behaviour("delay-MS", "waits before the headers", lambda ms: {"delay_ms": ms}),
    Behaviour("drip-MS", "waits before each event", lambda ms: _faults(shapers.drip(ms))),
    Behaviour(
        "pause-N-MS", "waits once, after N events", lambda n, ms: _faults(shapers.pause(n, ms))
    ),
    Behaviour("stall-headers", "never sends its headers", lambda: {"instead": Stall()}),
    Behaviour("stall-N", "falls silent after N events", lambda n: _faults(shapers.stall(n))),
    # errors it tells
    Behaviour("STATUS", "answers with that error", lambda status: _always(Fault(status=status))),
    Behaviour(
        "STATUS-retry-S",
        "answers with that error and a Retry-After",
        lambda status, s: _always(Fault(status=status, retry_after_s=s, should_retry=True)),
    ),
    Behaviour(
        "STATUS-final",
        "answers with that error and says not to retry",
        lambda status: _always(Fault(status=status, should_retry=False)),
    ),
    Behaviour(
        "quota",
        "answers 429 because the account has no credit left",
        lambda: _always(Fault(status=429, code="insufficient_quota", should_retry=False)),
    ),
    Behaviour("html-STATUS", "answers with a proxy's HTML page", _page),
    Behaviour("flap-N", "answers N calls, fails N with 503, and so on", lambda n: _check(_flap(n))),
    Behaviour("fail-first-N", "fails the first N calls with 503", lambda n: _check(_fail_first(n))),
    Behaviour(
        "200-error-first",
        "tells an error inside a 200, first thing",
        lambda: _broken_off(0, _OVERLOADED),
    ),
    Behaviour(
        "error-after-N",
        "tells an error inside a 200, after N events",
        lambda n: _broken_off(n, _OVERLOADED),
    ),
    Behaviour(
        "failed-after-N",
        "as error-after; the Responses API says response.failed",
        lambda n: _broken_off(n, replace(_OVERLOADED, failed_event=True)),
    ),
    # how it breaks off
    Behaviour("hangup", "closes the connection instead of answering", lambda: {"instead": Cut()}),
    Behaviour("lost", "does the work, charges it, and hangs up unheard", lambda: _raw(_silence)),
    Behaviour(
        "reset", "resets the connection instead of answering", lambda: {"instead": Cut(True)}
    ),
    Behaviour("cut-N", "closes the connection after N events", lambda n: _faults(shapers.cut(n))),
    Behaviour(
        "reset-N",
        "resets the connection after N events",
        lambda n: _faults(shapers.cut(n, reset=True)),
    ),
    Behaviour(
        "cut-bytes-N",
        "closes the connection after so many bytes",
        lambda n: _faults(shapers.cut_bytes(n)),
    ),
    Behaviour(
        "no-done",
        "ends cleanly without the terminal event",
        lambda: {"faults": (shapers.without_last,), "chunked": True, "ends": "cut"},
    ),
    Behaviour(
        "close-idle", "closes the connection after the answer, unannounced", lambda: {"close": True}
    ),
    # how it frames
    Behaviour("crlf", "ends lines with CR LF", lambda: _events(shapers.line_ends(b"\r\n"))),
    Behaviour("cr", "ends lines with CR", lambda: _events(shapers.line_ends(b"\r"))),
    Behaviour("comments", "puts a comment before each event", lambda: _stream(shapers.comment)),
    Behaviour(
        "multiline", "spreads each event over two data lines", lambda: _stream(shapers.spread)
    ),
    Behaviour("unspaced", "puts no space after the colons", lambda: _stream(shapers.unspaced)),
    Behaviour(
        "numbered", "gives each event an id and a retry time", lambda: _stream(shapers.numbered)
    ),
    Behaviour("bom", "begins with a byte order mark", lambda: _events(shapers.bom)),
    Behaviour("unfinished", "leaves out the last blank line", lambda: _faults(shapers.unfinished)),
    Behaviour(
        "split-utf8",
        "writes end inside letters of several bytes",
        lambda: {"text": _FOREIGN_TEXT, "pieces": (shapers.split_letters,)},
    ),
    Behaviour(
        "split-N", "writes of N bytes each", lambda n: {"pieces": (shapers.split_every(max(1, n)),)}
    ),
    Behaviour("chunked", "sends a whole answer without its length", lambda: {"chunked": True}),
    Behaviour("gzip", "compresses, asked or not", lambda: {"encoding": "gzip"}),
    Behaviour("deflate", "compresses with deflate, asked or not", lambda: {"encoding": "deflate"}),
    Behaviour(
        "bomb",
        "pads 256 MiB before the answer, compressed to 256 KiB",
        lambda: _bomb(256 * 1024**2),
    ),
    Behaviour(
        "bomb-SIZE",
        "pads so much before the answer, compressed",
        _bomb,
    ),
    # headers
    Behaviour("wrong-content-type", "says text/plain", lambda: {"content_type": "text/plain"}),
    Behaviour(
        "no-content-type",
        "says application/octet-stream",
        lambda: {"content_type": "application/octet-stream"},
    ),
    Behaviour(
        "set-cookie", "sets a cookie", lambda: {"headers": (("Set-Cookie", "sim=1; Path=/"),)}
    ),
    Behaviour(
        "redirect",
        "answers 307 to a path that must not be asked",
        lambda: {
            "status": 307,
            "body": b"",
            "headers": (("Location", "/redirected"),),
            "ends": "error",
        },
    ),
    Behaviour("evil-headers", "forges and smuggles headers", lambda: {"headers": _EVIL_HEADERS}),
    # broken HTTP
    Behaviour("raw-garbage", "bytes that are not HTTP", lambda: _raw(hostile.garbage)),
    Behaviour(
        "raw-no-status", "a body without a status line", lambda: _raw(hostile.no_status_line)
    ),
    Behaviour("raw-odd-status", "status 99999", lambda: _raw(hostile.odd_status)),
    Behaviour("raw-101", "switches protocols unasked", lambda: _raw(hostile.switching_protocols)),
    Behaviour(
        "raw-early-hints", "100 and 103 first; legal", lambda: _raw(hostile.early_hints, "complete")
    ),
    Behaviour("raw-1xx-flood", "a thousand 103s first", lambda: _raw(hostile.informational_flood)),
    Behaviour("raw-huge-header", "a header of 16 MiB", lambda: _raw(hostile.huge_header)),
    Behaviour("raw-many-headers", "20,000 headers", lambda: _raw(hostile.many_headers)),
    Behaviour("raw-endless-headers", "headers without end", lambda: _raw(hostile.endless_headers)),
    Behaviour("raw-split-header", "CR and NUL in a header", lambda: _raw(hostile.split_header)),
    Behaviour(
        "raw-two-lengths", "two different Content-Lengths", lambda: _raw(hostile.two_lengths)
    ),
    Behaviour(
        "raw-length-and-chunks",
        "Content-Length and chunked at once",
        lambda: _raw(hostile.length_and_chunks),
    ),
    Behaviour(
        "raw-short-length", "a Content-Length that is too small", lambda: _raw(hostile.short_length)
    ),
    Behaviour(
        "raw-long-length", "a Content-Length that is too large", lambda: _raw(hostile.long_length)
    ),
    Behaviour(
        "raw-negative-length", "a negative Content-Length", lambda: _raw(hostile.negative_length)
    ),
    Behaviour("raw-bad-chunk", "a chunk size that is no number", lambda: _raw(hostile.bad_chunk)),
    Behaviour("raw-huge-chunk", "a chunk size of 40 digits", lambda: _raw(hostile.huge_chunk_size)),
    Behaviour(
        "raw-trailers", "trailers after the body; legal", lambda: _raw(hostile.trailers, "complete")
    ),
    Behaviour("raw-endless-body", "a body without end", lambda: _raw(hostile.endless_body)),
    Behaviour("raw-unread-end", "no length and no end", lambda: _raw(hostile.unread_end)),
)
