"""Who is calling: tenant, key, session, tags, and the trace it belongs to.

Order of the caller's key (DESIGN.md section 9): a tenant key first, which no header can override;
else, with no tenant keys at all, loopback callers are trusted and may bring a provider's own key,
which goes only to the native provider of the dialect it came in. The key of a
`modelspend run` makes its program a trusted caller too, with the run's tags on every call.
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from hashlib import blake2b, sha256

from modelspend import answers
from modelspend.errors import BadRequest, ConfigInvalid, ModelspendError, NotAuthorised
from modelspend.gateway.headers import OWN_PREFIX, key_in
from modelspend.gateway.runs import Runs
from modelspend.money import from_usd
from modelspend.record import record
from modelspend.settings import Tenant

DEFAULT_TENANT = "default"
_HEADER_LIMIT = 256
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_NO_KEYS = frozenset({"", "x", "none", "dummy", "sk-none", "not-needed", "modelspend"})


@record
class Caller:
    """`own_key` is a provider's key that the caller brought; it never enters a repr. `own_bearer`:
    it came as a bearer token, which for some providers is another kind of key.

    `replay_of` is the receipt of the call that this one says again, `written_by` the provider that
    had answered it.

    `max_pico` is the cap that the request sets for itself, `run_cap_pico` that of its whole run.

    `fault` is what is wrong with the request although we know who sent it: the call is refused
    with it, and so leaves a receipt.
    """

    tenant: str = DEFAULT_TENANT
    workflow: str | None = None
    session: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    mode: str | None = None
    profile: str | None = None
    explain: bool = False
    cache: answers.Word | None = None
    max_pico: int | None = None
    run_id: str | None = None
    run_cap_pico: int | None = None
    key_id: str | None = None
    own_key: str | None = field(default=None, repr=False)
    own_bearer: bool = False
    replay_of: str | None = None
    written_by: str | None = None
    trace_id: str | None = None
    parent_span_id: str | None = None
    fault: ModelspendError | None = None


class Callers:
    """Knows the tenants' keys, by hash, and the secret that fingerprints are keyed with."""

    def __init__(
        self,
        tenants: Mapping[str, Tenant],
        env: Mapping[str, str],
        fingerprint_key: bytes,
        runs: Runs,
    ) -> None:
        self.runs = runs
        self._fingerprint_key = fingerprint_key
        self._tenant_by_key: dict[bytes, str] = {}
        for tenant, section in tenants.items():
            for name in section.keys:
                key = env.get(name, "")
                if not key:
                    raise ConfigInvalid(
                        f"tenants.{tenant}.keys names {name}, which is not set.",
                        f"Set {name} in the environment, or take it out of the file.",
                    )
                self._tenant_by_key[sha256(key.encode()).digest()] = tenant

    @property
    def keyed(self) -> bool:
        """True when tenants have keys, so that every caller must bring one."""
        return bool(self._tenant_by_key)

    def identify(self, headers: Sequence[tuple[str, str]], query: str) -> Caller:
        """The caller of a request. Raises NotAuthorised; a malformed header is its `fault`."""
        said = {name.lower(): value for name, value in headers}
        key, bearer = _credential(said, query)
        run = self.runs.of(key)
        tenant = run.tenant if run else self._tenant(key)
        if tenant is None and run is None and self.keyed:
            raise NotAuthorised(
                "This sidecar takes calls with a tenant's key only.",
                "Send one of the keys named in [tenants.*] as the API key.",
            )
        trace_id, parent = _trace(said.get("traceparent", ""))
        caller = Caller(
            tenant=tenant or DEFAULT_TENANT,
            workflow=run.workflow if run else None,
            tags=run.tags if run else {},
            run_id=run.run_id if run else None,
            run_cap_pico=run.cap_pico if run else None,
            key_id=self.fingerprint(key.encode(), "key") if key else None,
            own_key=None if run or tenant or not key or key.lower() in _NO_KEYS else key,
            own_bearer=bearer,
            trace_id=trace_id,
            parent_span_id=parent,
        )
        try:
            return described(caller, said, tenant)
        except BadRequest as fault:
            return replace(caller, fault=fault)

    def fingerprint(self, value: bytes, purpose: str) -> str:
        """A keyed fingerprint: it joins equal values and cannot be turned back into them."""
        mac = blake2b(value, key=self._fingerprint_key, person=purpose.encode()[:16], digest_size=8)
        return mac.hexdigest()

    def _tenant(self, key: str) -> str | None:
        if not key or not self._tenant_by_key:
            return None
        digest = sha256(key.encode()).digest()
        found = None
        for known, tenant in self._tenant_by_key.items():
            if hmac.compare_digest(known, digest):
                found = tenant
        return found


def supposed(headers: Sequence[tuple[str, str]], query: str, *, keyed: bool) -> Caller:
    """The caller that a dry run supposes: a provider's key counts as it would in a call, a tenant's
    key is not needed. Raises BadRequest."""
    said = {name.lower(): value for name, value in headers}
    key, bearer = _credential(said, query)
    own = None if keyed or not key or key.lower() in _NO_KEYS else key
    return described(Caller(own_key=own, own_bearer=bearer), said, None)


def described(caller: Caller, said: Mapping[str, str], tenant: str | None) -> Caller:
    """With what the caller says of itself in our headers. Raises BadRequest."""
    if not any(name.startswith(OWN_PREFIX) for name in said):
        return caller
    return replace(
        caller,
        tenant=tenant or _short(said, "x-modelspend-tenant") or DEFAULT_TENANT,
        workflow=_short(said, "x-modelspend-workflow") or caller.workflow,
        session=_short(said, "x-modelspend-session"),
        tags={**_tags(said.get("x-modelspend-tags", "")), **caller.tags},
        mode=_short(said, "x-modelspend-mode"),
        profile=_short(said, "x-modelspend-profile"),
        cache=answers.word(said.get(answers.HEADER)),
        max_pico=_dollars(said, "x-modelspend-max-usd"),
        explain=_short(said, "x-modelspend-explain") in ("1", "true", "yes"),
    )


def _credential(said: Mapping[str, str], query: str) -> tuple[str, bool]:
    """(key, whether it is a bearer token) that came with a request; "" for none."""
    scheme, _, token = said.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip(), True
    for name in ("x-api-key", "x-goog-api-key", "api-key"):
        if said.get(name):
            return said[name].strip(), False
    return (key_in(query) if query else ""), False


def _short(said: Mapping[str, str], name: str) -> str | None:
    value = said.get(name)
    if value is None or not value.strip():
        return None
    if len(value) > _HEADER_LIMIT or not value.isprintable():
        raise BadRequest(
            f"Header {name} is not printable text of at most {_HEADER_LIMIT} characters.",
            "Shorten it.",
            field=name,
        )
    return value.strip()


def _dollars(said: Mapping[str, str], name: str) -> int | None:
    text = _short(said, name)
    if text is None:
        return None
    try:
        return from_usd(text.removeprefix("$"))
    except ValueError as why:
        raise BadRequest(
            f"Header {name} is no amount of dollars: {why}.", "Write one, such as 0.05.", field=name
        ) from None


def _tags(text: str) -> dict[str, str]:
    """`k=v,k2=v2`. Raises BadRequest when a part has no `=`, or there are more than 20."""
    tags: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        proper = bool(equals and name.strip()) and part.isprintable()
        if not proper or len(part) > _HEADER_LIMIT or len(tags) >= 20:
            raise BadRequest(
                f"Header x-modelspend-tags is not `k=v,k2=v2`: {part[:40]!r}.",
                "Write at most 20 tags, each as name=value.",
                field="x-modelspend-tags",
            )
        tags[name.strip()] = value.strip()
    return tags


def _trace(traceparent: str) -> tuple[str | None, str | None]:
    """(trace id, parent span id) of a W3C traceparent; a malformed one is as good as none."""
    found = _TRACEPARENT.fullmatch(traceparent.strip().lower())
    if found is None or not found[1].strip("0") or not found[2].strip("0"):
        return None, None
    return found[1], found[2]
