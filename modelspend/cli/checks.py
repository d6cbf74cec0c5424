"""What `doctor` looks at. An id belongs to its check for ever; new checks get new numbers.

A check never raises: what it could not find out is a finding too. Keys are told by the names of
their variables alone.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelspend.errors import ConfigInvalid, DaemonUnreachable, ModelspendError
from modelspend.record import frozen
from modelspend.sinks import datadog_off, section_of, without_section

if TYPE_CHECKING:
    from modelspend.cli.context import Here
    from modelspend.settings import Loaded
    from modelspend.store import Info


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@frozen
class Finding:
    """What one check found, and the next step when there is one."""

    id: str
    name: str
    level: Level
    found: str
    next: str | None = None


Said = tuple[Level, str] | tuple[Level, str, str]


@dataclass(slots=True)
class Patient:
    """What the checks share, found out once."""

    env: Mapping[str, str]
    now_ms: int
    full: bool
    ledger: Path
    loaded: "Loaded | None" = None
    wrong: ConfigInvalid | None = None
    info: "Info | None" = None
    problems: tuple[str, ...] = ()
    unpriced: tuple[int, int] = (0, 0)
    trouble: str | None = None
    status: Mapping[str, Any] | None = None
    sinks: tuple[Mapping[str, Any], ...] = ()
    unreachable: ModelspendError | None = None


def examine(at: "Here", *, full: bool) -> list[Finding]:
    """Every check in the order of its number."""
    patient = Patient(env=at.env, now_ms=at.now_ms(), full=full, ledger=at.ledger)
    _read_settings(patient, at)
    _ask_daemon(patient)
    _read_ledger(patient)
    return [
        Finding(id, name, *said)
        for id, (name, check) in CHECKS.items()
        for said in [check(patient)]
    ]


def _read_settings(patient: Patient, at: "Here") -> None:
    from modelspend import settings
    from modelspend.catalog import Catalog

    try:
        patient.loaded = settings.load(at.config, at.env)
        Catalog.load(patient.loaded.settings.providers, at.env)
    except ConfigInvalid as error:
        patient.wrong = error


def _ask_daemon(patient: Patient) -> None:
    from modelspend.cli import client

    try:
        patient.status = client.find(patient.ledger).get("/v1/status")
    except ModelspendError as error:
        patient.unreachable = error


def _read_ledger(patient: Patient) -> None:
    from modelspend.cli.reading import read
    from modelspend.store import Store

    async def ask(store: Store) -> None:
        patient.info = await store.meta.info()
        patient.problems = tuple(await store.meta.check(full=patient.full))
        recent = await store.receipts.list(limit=_RECENT)
        sinks = await store.sinks.standings(patient.now_ms)
        patient.sinks = tuple(one.to_json() for one in sinks)
        unknown = [s for s in recent if s.receipt.execution.actual_cost_pico is None]
        patient.unpriced = len(unknown), len(recent)

    if not patient.ledger.exists():
        return
    try:
        read(patient.ledger, ask)
    except ModelspendError as error:
        patient.trouble = error.text


_RECENT = 200


def _configuration(patient: Patient) -> Said:
    if patient.wrong is not None:
        first, *others = patient.wrong.problems
        more = f" (and {len(others)} more)" if others else ""
        return Level.FAIL, f"{first}{more}", "modelspend config check"
    assert patient.loaded is not None
    if patient.loaded.notes:
        return Level.WARN, " ".join(patient.loaded.notes), "modelspend help config"
    return Level.OK, f"{patient.loaded.path or 'no file: the defaults'}"


def _origins(patient: Patient) -> Said:
    if patient.loaded is None:
        return Level.WARN, "not known while the configuration is wrong", "modelspend config check"
    set_ = [f"{k} ({o})" for k, o in patient.loaded.origins.items() if o != "default"]
    return Level.OK, ", ".join(set_) or "nothing is set; everything has its default"


def _provider_keys(patient: Patient) -> Said:
    from modelspend.catalog import known_providers

    sections = patient.loaded.settings.providers if patient.loaded else {}
    found, missing = [], []
    for name, provider in sorted(known_providers().items()):
        own = sections[name].api_key_env if name in sections else None
        names = (own,) if own else provider.keys
        held = [key for key in names if patient.env.get(key)]
        found += [f"{key} ({name})" for key in held[:1]]
        missing += [f"{names[0]} ({name})" for _ in [0] if name in sections and not held and names]
    for name, section in sections.items():
        key = section.api_key_env
        if name not in known_providers() and key:
            (found if patient.env.get(key) else missing).append(f"{key} ({name})")
    if missing:
        return (
            Level.WARN,
            f"not set: {', '.join(missing)}",
            "Set them where the sidecar is started.",
        )
    if not found and not sections:
        return Level.WARN, "none is set", "Set one, such as OPENAI_API_KEY; or: modelspend demo"
    return Level.OK, ", ".join(found) or "none is needed by the configured providers"


def _tenant_keys(patient: Patient) -> Said:
    tenants = patient.loaded.settings.tenants if patient.loaded else {}
    named = [(key, name) for name, tenant in tenants.items() for key in tenant.keys]
    missing = [f"{key} ({name})" for key, name in named if not patient.env.get(key)]
    if missing:
        return (
            Level.FAIL,
            f"not set: {', '.join(missing)}",
            "Set them, or take them out of the file.",
        )
    if not named:
        return Level.OK, "none: callers on this machine are trusted"
    return Level.OK, ", ".join(f"{key} ({name})" for key, name in named)


def _daemon(patient: Patient) -> Said:
    if patient.status is not None:
        said = patient.status
        if said.get("ledger_healthy") is False:
            return Level.FAIL, f"{said['url']} cannot write its ledger", "Free space on its disk."
        return Level.OK, f"{said['url']} answers, process {said['pid']}, {said['version']}"
    assert patient.unreachable is not None
    level = Level.WARN if isinstance(patient.unreachable, DaemonUnreachable) else Level.FAIL
    from modelspend.store import read_lock

    if read_lock(patient.ledger) is not None:  # somebody holds the ledger and does not answer
        level = Level.FAIL
    return level, patient.unreachable.message, patient.unreachable.hint


def _port(patient: Patient) -> Said:
    if patient.status is not None:
        return Level.OK, f"{patient.status['url']} is the sidecar's own"
    if patient.loaded is None:
        return Level.WARN, "not known while the configuration is wrong", "modelspend config check"
    import socket

    server = patient.loaded.settings.server
    host = server.host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, server.port))
    except OSError as error:
        step = "Choose another: MODELSPEND_SERVER__PORT=…, or stop what listens there."
        return Level.FAIL, f"{server.host}:{server.port} is not free: {error.strerror}", step
    return Level.OK, f"{server.host}:{server.port} is free"


def _integrity(patient: Patient) -> Said:
    if patient.trouble:
        return (
            Level.FAIL,
            patient.trouble,
            "It was left untouched; keep a copy before anything else.",
        )
    if patient.info is None:
        return Level.OK, f"there is no ledger yet at {patient.ledger}"
    if patient.problems:
        text = "; ".join(patient.problems[:3])
        return Level.FAIL, text, "Keep a copy of the ledger's folder, then: modelspend serve"
    how = "every page and the hash chain" if patient.full else "a quick look; --full reads it all"
    mib = (patient.info.size + patient.info.wal_size) / 2**20
    return Level.OK, f"{patient.ledger}: {patient.info.receipts} receipts, {mib:.1f} MiB ({how})"


def _open_calls(patient: Patient) -> Said:
    if patient.info is None or not patient.info.open_intents:
        return Level.OK, "no call is under way"
    count = patient.info.open_intents
    if patient.status is not None:
        return Level.OK, f"{count} under way"
    found = f"{count} were under way when the sidecar ended"
    return Level.WARN, found, "The next start closes each as interrupted: modelspend serve"


def _sqlite(patient: Patient) -> Said:
    from modelspend.store.meta import sqlite_release

    release, damaging = sqlite_release()
    if damaging:
        found = f"{release} has the WAL-reset bug; one writer, as here, does not meet it"
        return Level.WARN, found, "Write to the ledger with nothing else; 3.51.3 is free of it."
    return Level.OK, release


def _file_system(patient: Patient) -> Said:
    if patient.info is not None and patient.info.network_file_system:
        kind = patient.info.network_file_system
        return Level.FAIL, f"the ledger lies on {kind}", "Put it on a local disk: [store] path"
    import shutil

    above = next(folder for folder in patient.ledger.parents if folder.exists())
    free = shutil.disk_usage(above).free / 2**20
    if free < _LITTLE_SPACE_MIB:
        return Level.WARN, f"{free:.0f} MiB are free on its disk", "Free some: calls stop at none."
    return Level.OK, f"{free:.0f} MiB are free on its disk"


_LITTLE_SPACE_MIB = 256


def _file_modes(patient: Patient) -> Said:
    if os.name == "nt" or not patient.ledger.exists():
        return Level.OK, "nothing to look at"
    wide = [path for path in _ours(patient.ledger) if _mode(path) & 0o077]
    folder = patient.ledger.parent
    if _mode(folder) & 0o077:
        wide.append(folder)
    if not wide:
        return Level.OK, "open to this user alone"
    shown = ", ".join(f"{path.name} {_mode(path):04o}" for path in wide)
    fixes = " && ".join(f"chmod {700 if path == folder else 600} {path}" for path in wide)
    return Level.WARN, f"others may read: {shown}", fixes


def _ours(ledger: Path) -> Iterator[Path]:
    from modelspend import places

    beside = (ledger.with_name(ledger.name + end) for end in ("", "-wal", "-shm", ".lock"))
    yield from (path for path in (*beside, places.token(ledger)) if path.exists())


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _token(patient: Patient) -> Said:
    from modelspend import places

    path = places.token(patient.ledger)
    if not path.exists():
        return Level.OK, "made at the first start"
    try:
        length = len(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        return (
            Level.FAIL,
            f"{path} cannot be read ({type(error).__name__})",
            f"rm {path}; serve again",
        )
    if length < _TOKEN_LENGTH:
        return Level.FAIL, f"{path} is too short to be safe", f"rm {path}, then start it again"
    return Level.OK, str(path)


_TOKEN_LENGTH = 32


def _clock(patient: Patient) -> Said:
    from modelspend.receipt_json import iso

    newest = patient.info.newest_ms if patient.info else None
    if patient.now_ms < _NEVER_BEFORE_MS:
        return Level.FAIL, f"it says {iso(patient.now_ms)}", "Set it: prices and budgets go by it."
    if newest is not None and newest > patient.now_ms + _CLOCK_SLACK_MS:
        found = f"it says {iso(patient.now_ms)}, but the newest receipt is of {iso(newest)}"
        return Level.WARN, found, "Check the clock: prices and budgets go by it."
    return Level.OK, iso(patient.now_ms)


_NEVER_BEFORE_MS = 1_780_000_000_000  # May 2026, before this program was written
_CLOCK_SLACK_MS = 120_000


def _price_table(patient: Patient) -> Said:
    from importlib import metadata

    pinned = _pinned("genai-prices")
    try:
        found = metadata.version("genai-prices")
    except metadata.PackageNotFoundError:
        return (
            Level.FAIL,
            "genai-prices is not installed",
            "pip install --force-reinstall modelspend",
        )
    if pinned and found != pinned:
        step = f"pip install genai-prices=={pinned}"
        return Level.WARN, f"genai-prices {found}; this version was made for {pinned}", step
    days = (patient.now_ms - _PRICES_OF_MS) // 86_400_000
    if days > _PRICES_OLD_DAYS:
        step = "pip install --upgrade modelspend; set what has changed: modelspend prices set"
        return Level.WARN, f"genai-prices {found}, {days} days old", step
    return Level.OK, f"genai-prices {found}, {days} days old"


_PRICES_OF_MS = 1_793_750_400_000  # 2026-11-04: the newest change that genai-prices 0.2.3 knows of
_PRICES_OLD_DAYS = 120


def _pinned(package: str) -> str | None:
    """The version that our own metadata asks for; None in a checkout that is not installed."""
    from importlib import metadata

    try:
        wanted = metadata.requires("modelspend") or []
    except metadata.PackageNotFoundError:
        return None
    exact = f"{package}=="
    return next((line.removeprefix(exact) for line in wanted if line.startswith(exact)), None)


def _unpriced(patient: Patient) -> Said:
    unknown, recent = patient.unpriced
    if not recent:
        return Level.OK, "there are no receipts yet"
    found = f"{unknown} of the last {recent} receipts have no known cost"
    if unknown:
        return Level.WARN, found, "modelspend receipts list --unpriced"
    return Level.OK, f"the last {recent} receipts all have a known cost"


def _libraries(patient: Patient) -> Said:
    from importlib import metadata

    release = metadata.version("aiohttp")
    if tuple(int(part) for part in release.split(".")[:3] if part.isdigit()) < _AIOHTTP:
        step = "pip install --upgrade 'aiohttp>=3.14.5'"
        return Level.FAIL, f"aiohttp {release} has known holes", step
    return Level.OK, f"aiohttp {release}"


_AIOHTTP = (3, 14, 5)


BASE_URLS = (
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",
    "ANTHROPIC_BASE_URL",
    "GOOGLE_GEMINI_BASE_URL",
)
"""The variables by which SDKs and agents are pointed at a server."""


def _bypass(patient: Patient) -> Said:
    if patient.status is None:
        return Level.OK, "no sidecar is running that could be passed by"
    from urllib.parse import urlsplit

    ours = str(patient.status["url"])
    port = urlsplit(ours).port
    set_ = {name: patient.env[name] for name in BASE_URLS if patient.env.get(name)}
    astray = [name for name, url in set_.items() if not _points_at(url, port)]
    step = "eval what this shell needs: modelspend help clients; or: modelspend run -- CMD"
    if astray:
        return Level.WARN, f"{', '.join(astray)} point past the sidecar at {ours}", step
    if not set_:
        return Level.WARN, f"this shell sets no base URL, so its apps go past {ours}", step
    return Level.OK, f"{', '.join(set_)} point at {ours}"


def _points_at(url: str, port: int | None) -> bool:
    from urllib.parse import urlsplit

    from modelspend.settings import is_loopback

    try:
        address = urlsplit(url)
        return is_loopback(address.hostname or "") and address.port == port
    except ValueError:
        return False


def _sinks(patient: Patient) -> Said:
    """What the running sidecar says of them, else how the last one left them."""
    left = set(_left_behind(patient))
    told = [one for one in patient.sinks if one["name"] not in left]
    if patient.status is not None:
        told = patient.status.get("sinks", told)
    off = datadog_off(patient.env) and "; Datadog is off (DD_METRICS_ENABLED)"
    if not told:
        return Level.OK, f"none: nothing leaves this machine{off or ''}"
    behind = [one for one in told if (one["lag_s"] or 0) > _LAG_S or one["retry_at"]]
    if behind:
        found = "; ".join(
            f"{one['name']}: {one['queued']} wait ({one['last_error'] or 'behind'})"
            for one in behind
        )
        return Level.WARN, found, "Each goes on by itself once its far end takes it."
    found = ", ".join(f"{one['name']}: {one['sent']} sent, {one['queued']} wait" for one in told)
    lost = [f"{one['name']} ({one['dropped']})" for one in told if one["dropped"]]
    if lost:
        text = f"{found}; could not be sent: {', '.join(lost)}"
        return Level.WARN, text, "Of webhooks: modelspend webhooks dead"
    return Level.OK, f"{found}{off or ''}"


_LAG_S = 300


def _left_behind(patient: Patient) -> Sequence[str]:
    """Sinks that nothing asks for: as the sidecar has it, else by the file alone."""
    if patient.status is not None:
        return tuple(patient.status.get("sinks_left_behind", ()))
    if patient.loaded is None:
        return ()
    return without_section([one["name"] for one in patient.sinks], patient.loaded.settings)


def _left_sinks(patient: Patient) -> Said:
    if patient.status is None and patient.loaded is None:
        return Level.WARN, "not known while the configuration is wrong", "modelspend config check"
    left = _left_behind(patient)
    if not left:
        return Level.OK, "none: each that the ledger knows is asked for"
    waiting = {one["name"]: one["queued"] for one in patient.sinks}
    found = "; ".join(f"{name}: {waiting.get(name, 0)} wait" for name in left)
    back = ", ".join(section_of(name) for name in left)
    step = f"To go on, put back {back}; to let go: modelspend sinks forget {left[0]} --yes"
    return Level.WARN, found, step


CHECKS: Mapping[str, tuple[str, Callable[[Patient], Said]]] = {
    "D01": ("configuration", _configuration),
    "D02": ("what is set, and where", _origins),
    "D03": ("provider keys, by name", _provider_keys),
    "D04": ("tenant keys, by name", _tenant_keys),
    "D05": ("sidecar", _daemon),
    "D06": ("port", _port),
    "D07": ("ledger", _integrity),
    "D08": ("calls left open", _open_calls),
    "D09": ("SQLite", _sqlite),
    "D10": ("disk", _file_system),
    "D11": ("file modes", _file_modes),
    "D12": ("local token", _token),
    "D13": ("clock", _clock),
    "D14": ("price table", _price_table),
    "D15": ("unpriced receipts", _unpriced),
    "D16": ("libraries", _libraries),
    "D17": ("base URLs of this shell", _bypass),
    "D18": ("sinks", _sinks),
    "D19": ("sinks left behind", _left_sinks),
}
"""Every check by its id."""
