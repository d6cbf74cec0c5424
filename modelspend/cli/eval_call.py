"""One question to one model, through the running sidecar and over HTTP as any app would ask it.

Hides which wire protocol a model is asked in, how its answer is read back, and that the cost of a
call is what its receipt says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from http.client import HTTPConnection, HTTPException
from threading import local
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelspend.errors import ModelspendError, UnknownModel, Unsupported
from modelspend.record import frozen

if TYPE_CHECKING:
    from modelspend.catalog import Catalog, Provider
    from modelspend.cli.client import Daemon

_PATIENCE_S = 1810.0  # the sidecar gives a whole answer up to upstream.total_s, 1800 by default


@frozen
class Target:
    """A model as it was named, who serves it under which name, and the protocol it is asked in."""

    name: str
    provider: "Provider"
    model: str
    dialect: str


@frozen(kw_only=True)
class Question:
    """`messages` are in the words of openai.chat, text alone; `tags` go on the receipt."""

    messages: Sequence[Mapping[str, Any]]
    max_tokens: int | None = None
    temperature: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@frozen(kw_only=True)
class Told:
    """What came back: `text`, or null and `why`. The cost is null when no price is known."""

    text: str | None
    why: str = ""
    receipt_id: str | None = None
    cost_pico: int | None = None
    latency_ms: float = 0.0


def target_of(name: str, catalog: "Catalog") -> Target:
    """Whom a name means, in the first protocol that is spoken there. Raises UnknownModel."""
    from modelspend.dialects import CHAT_DIALECTS

    refused: ModelspendError = UnknownModel(f"There is no model {name}.")
    for dialect in CHAT_DIALECTS:
        try:
            return Target(name, *catalog.resolve_model(name, dialect), dialect)
        except Unsupported as why:
            refused = why
    raise refused


class Asker:
    """Asks; from several threads at once, each over a connection of its own."""

    def __init__(self, daemon: "Daemon", key: str) -> None:
        self._daemon = daemon
        self._key = key
        self._address = urlsplit(daemon.url)
        self._mine = local()

    def ask(self, target: Target, question: Question) -> Told:
        """The answer to a question. Raises DaemonUnreachable when the sidecar has gone."""
        from modelspend.dialects import CHAT_DIALECTS

        dialect = CHAT_DIALECTS[target.dialect]
        encoded = dialect.encode_request(_neutral(target, question), target.name)
        path = "/v1" + dialect.target(encoded.view, target.name)
        try:
            status, headers, body = self._post(path, encoded.body, question.tags)
        except (OSError, HTTPException) as why:
            self._daemon.get("/v1/status")  # is it the sidecar, or this one call?
            return Told(text=None, why=type(why).__name__)
        receipt_id = headers.get("x-modelspend-receipt")
        receipt = self._daemon.get(f"/v1/receipts/{receipt_id}") if receipt_id else {}
        text, why_not = None, _failure(target, receipt, status)
        if status == 200 and not why_not:
            try:
                text = _text(dialect.decode_answer(body))
            except ValueError:
                why_not = "unreadable answer"
        run = receipt.get("execution", {})
        return Told(
            text=text,
            why=why_not if text is None else "",
            receipt_id=receipt_id,
            cost_pico=_pico(run.get("actual_cost_usd")),
            latency_ms=float(run.get("actual_latency_ms", 0)),
        )

    def _post(
        self, path: str, body: bytes, tags: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        headers = {
            "content-type": "application/json",
            "authorization": f"Bearer {self._key}",
            "x-modelspend-workflow": "eval",
            "x-modelspend-mode": "observe",  # the model that is named is the one that is measured
            "x-modelspend-tags": ",".join(f"{name}={value}" for name, value in tags.items()),
        }
        connection = self._connection()
        try:
            connection.request("POST", path, body=body, headers=headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, told, answer.read()
        except BaseException:
            connection.close()
            raise

    def _connection(self) -> HTTPConnection:
        """This thread's own; it opens itself again after it was closed."""
        found: HTTPConnection | None = getattr(self._mine, "connection", None)
        if found is None:
            host, port = self._address.hostname or "", self._address.port
            found = self._mine.connection = HTTPConnection(host, port, timeout=_PATIENCE_S)
        return found


def _neutral(target: Target, question: Question) -> Any:
    from modelspend import chat

    return chat.Request(
        model=target.name,
        messages=tuple(
            chat.Message(role=said["role"], parts=(chat.Text(text=said["content"]),))
            for said in question.messages
        ),
        origin="openai.chat",
        max_output=question.max_tokens,
        temperature=question.temperature,
    )


def _text(answer: Any) -> str:
    from modelspend import chat

    return "".join(part.text for part in answer.parts if isinstance(part, chat.Text))


def _failure(target: Target, receipt: Mapping[str, Any], status: int) -> str:
    """Why there is nothing to grade, in the words of the receipt; "" when there is."""
    ended = receipt.get("execution", {}).get("status")
    last = (receipt.get("attempts") or [{}])[-1]
    if status != 200 or ended not in ("success", "cached"):
        return str(last.get("failure_class") or ended or f"status {status}")
    if last and (last["provider"], last["model_id"]) != (target.provider.name, target.model):
        return f"answered by {last['provider']}/{last['model_id']}"
    return ""


def _pico(usd: Any) -> int | None:
    from modelspend.money import from_usd

    return None if usd is None else from_usd(usd)
