"""Everything that can go wrong, in the product's words: one shallow family.

An error carries its stable `code`, the HTTP status and the exit code it becomes, and a `hint` with
the next step. `server/guard.py` and `cli/context.py` are the only two places that turn one into
words.
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """The exit codes of every command; scripts rely on them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    CHECK_FAILED = 6
    BUDGET = 7
    CANNOT_RUN = 126
    NO_COMMAND = 127
    INTERRUPTED = 130


class ModelspendError(Exception):
    """The root of the family: a message that names the thing and the value, and a next step.

    `field` is the dotted place in the request body, `retry_after_s` the wait that we advise,
    `receipt_id` the receipt that tells of it, once there is one.
    """

    code: str = "internal"
    status: int = 500
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.retry_after_s = retry_after_s
        self.receipt_id: str | None = None

    @property
    def text(self) -> str:
        """Message and hint for a person: one line, unless the message has several."""
        between = "\n" if "\n" in self.message else " "
        return f"{self.message}{between}{self.hint}".strip()


class BadRequest(ModelspendError):
    """The caller's body or headers cannot be read as what the route takes."""

    code, status, exit_code = "bad_request", 400, ExitCode.USAGE


class BodyTooLarge(ModelspendError):
    code, status, exit_code = "body_too_large", 413, ExitCode.USAGE


class Unsupported(ModelspendError):
    """A feature that could not be metered, or a protocol that we do not speak."""

    code, status, exit_code = "unsupported", 400, ExitCode.USAGE


class Uncarriable(ModelspendError):
    """What a request needs and another protocol has no words for; `capability` names it.

    The router drops a candidate for it, so a caller sees it only when no candidate is left.
    """

    code, status, exit_code = "uncarriable", 400, ExitCode.USAGE

    def __init__(
        self, message: str, hint: str = "", *, capability: str, field: str | None = None
    ) -> None:
        super().__init__(message, hint, field=field)
        self.capability = capability


class UnpairedToolCall(ModelspendError):
    """A tool result without its call, or a call without its result; `field` is the message."""

    code, status, exit_code = "unpaired_tool_call", 400, ExitCode.USAGE


class UnknownRoute(ModelspendError):
    code, status, exit_code = "unknown_route", 404, ExitCode.USAGE


class UnknownModel(ModelspendError):
    code, status, exit_code = "unknown_model", 404, ExitCode.NOT_FOUND


class NoCredential(ModelspendError):
    """No key that may be used for this provider."""

    code, status, exit_code = "no_credential", 401, ExitCode.REFUSED


class NotAuthorised(ModelspendError):
    """The caller's own tenant key or local token is missing or wrong."""

    code, status, exit_code = "not_authorised", 401, ExitCode.REFUSED


class Forbidden(ModelspendError):
    """A browser page of another origin, or a Host that is not ours."""

    code, status, exit_code = "forbidden", 403, ExitCode.REFUSED


class WrongHost(ModelspendError):
    code, status, exit_code = "wrong_host", 421, ExitCode.REFUSED


class Overloaded(ModelspendError):
    code, status, retryable = "overloaded", 429, True


class Draining(ModelspendError):
    """The daemon is stopping and takes no new calls."""

    code, status, retryable = "draining", 503, True


class LedgerUnavailable(ModelspendError):
    """The intent cannot be made durable, so nothing may be sent."""

    code, status, retryable = "ledger_unavailable", 503, True


class LedgerHeld(ModelspendError):
    """Another gateway writes this ledger."""

    code, status = "ledger_held", 409


class ExportHeld(ModelspendError):
    """Another run of the same export is writing to the same folder."""

    code, status = "export_held", 409


class BadPath(ModelspendError):
    """A file or folder that was named cannot be written or read there; the message says why."""

    code, status = "bad_path", 400


class LedgerCorrupt(ModelspendError):
    code, status = "ledger_corrupt", 500


class UpstreamFailed(ModelspendError):
    """The provider could not be reached, or broke off; `failure_class` says how."""

    code, status, retryable = "upstream_failed", 502, True

    def __init__(self, message: str, hint: str = "", *, failure_class: str) -> None:
        super().__init__(message, hint)
        self.failure_class = failure_class


class ProviderSaid(ModelspendError):
    """A provider's own refusal, to be told in another dialect than its own."""

    def __init__(self, message: str, *, status: int, kind: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = kind


class CircuitOpen(ModelspendError):
    """Whoever may answer is being left alone, because it fails; `retry_after_s` says how long."""

    code, status, retryable = "circuit_open", 503, True


class Cooling(CircuitOpen):
    """Whoever may answer has asked to be left alone for a while."""

    code, status = "rate_limited", 429


class NoCandidate(ModelspendError):
    """No model of the profile may answer; the message says what ruled each one out."""

    code, status, exit_code = "no_candidate", 400, ExitCode.REFUSED


class UnknownAnswer(ModelspendError):
    """A stored answer that a request goes on from, and that we know of no provider for."""

    code, status, exit_code = "previous_response_not_found", 400, ExitCode.NOT_FOUND


class StreamTruncated(UpstreamFailed):
    """A stream that ended without its terminal event."""

    code = "stream_truncated"


class ProviderRefused(ModelspendError):
    """A provider's own error, on its way to a client that speaks another dialect.

    `kind` is the provider's name for it; the status is the provider's too.
    """

    code = "provider_refused"

    def __init__(self, message: str, *, kind: str, status: int) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status


class ConfigInvalid(ModelspendError):
    """`problems` lists every fault, one sentence each, with its place in the file."""

    code, status, exit_code = "config_invalid", 400, ExitCode.USAGE

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        field: str | None = None,
        problems: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint, field=field)
        self.problems = problems or (message,)


class ReceiptNotFound(ModelspendError):
    code, status, exit_code = "receipt_not_found", 404, ExitCode.NOT_FOUND


class NotFound(ModelspendError):
    """A named thing other than a receipt: a topic, a view, a price."""

    code, status, exit_code = "not_found", 404, ExitCode.NOT_FOUND


class TooLittleHistory(ModelspendError):
    """Too few days to say anything about those to come."""

    code, status = "too_little_history", 422


class BodyNotKept(NotFound):
    """The request of a call is gone, or was never kept, so it cannot be said again."""

    code, status = "body_not_kept", 410


class Usage(ModelspendError):
    """A command or query that was typed wrong."""

    code, status, exit_code = "usage", 400, ExitCode.USAGE


class BudgetExceeded(ModelspendError):
    """What is asked for could pass a cap in dollars; `budget` is that cap, where it is kept.

    402 is the status that no official client tries again.
    """

    code, status, exit_code = "budget_exceeded", 402, ExitCode.BUDGET
    budget: object = None
    spent_pico: int = 0
    held_pico: int = 0


class Stopped(ModelspendError):
    """A session or key that an operator, or a rule against runaways, has stopped."""

    code, status, exit_code = "stopped", 402, ExitCode.BUDGET


class CassetteMiss(ModelspendError):
    """A request that is not on the cassette that is played; there is nowhere else to send it."""

    code, status, exit_code = "cassette_miss", 404, ExitCode.CHECK_FAILED


class NetworkRefused(ModelspendError):
    """Another address was asked for while a cassette is played."""

    code, status, exit_code = "network_refused", 403, ExitCode.CHECK_FAILED


class DrillUnderWay(ModelspendError):
    """One fault at a time stands in front of a provider."""

    code, status = "drill_under_way", 409


class SinkInUse(ModelspendError):
    """What is to be forgotten is still configured, so it would only begin anew."""

    code, status = "sink_in_use", 409


class DaemonUnreachable(ModelspendError):
    code, status, exit_code = "daemon_unreachable", 503, ExitCode.UNREACHABLE


class NoCommand(ModelspendError):
    """The program that was to be run does not exist."""

    code, status, exit_code = "no_command", 404, ExitCode.NO_COMMAND


class CannotRun(ModelspendError):
    """The program that was to be run exists and cannot be started."""

    code, status, exit_code = "cannot_run", 403, ExitCode.CANNOT_RUN


class CheckFailed(ModelspendError):
    code, status, exit_code = "check_failed", 409, ExitCode.CHECK_FAILED
