"""What a SIEM is told: every text comes back out of every format, an event is a line, and no more.

Proof 6 with 2,000 texts here; with 100,000, and through the parsers that others have written:
`pytest -m full tests/exporters/test_siem_formats.py` (with liblognorm-utils: see below)
"""

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from modelspend import focus
from modelspend.cli.output import csv_line
from modelspend.events import Event
from modelspend.exported import place
from modelspend.exporters import cef, ecs, ocsf, syslog
from modelspend.exporters.formats import FORMATS
from modelspend.exporters.notice import MOST_TEXT, Notice, cut, notice_of, plain
from modelspend.receipt import Status
from modelspend.receipt_json import canonical, iso
from tests.exporters.hostile import (
    hostile_event,
    hostile_receipt,
    read_cef,
    read_frames,
    read_message,
    stored,
    texts,
)
from tests.store.synthetic import Traffic

FEW = 2_000
MANY = pytest.param(100_000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])

KINDS = (
    "alert.escalated", "alert.fired", "alert.resolved", "audit.anomaly", "budget.exhausted",
    "budget.overrun", "budget.threshold", "caller.lifted", "caller.runaway", "caller.stopped",
    "circuit.half_open", "circuit.open", "circuit.recovered", "drill.ended", "drill.started",
    "failover", "ledger.gap", "ledger.recovered", "ledger.resumed", "model.promoted",
    "provider.health", "routing.decision", "sink.forgotten", "something.new",
)  # fmt: skip


def notices(count: int) -> Iterator[Notice]:
    """Of hostile receipts and events in turn, until so many texts are used up."""
    used = 0

    def counted() -> Iterator[str]:
        nonlocal used
        for text in texts(seed=6):
            used += 1
            yield text

    said, traffic = counted(), Traffic(seed=5, tenants=3)
    seq = 0
    while used < count:
        seq += 1
        yield notice_of(stored(hostile_receipt(traffic.receipt(), said), seq))
        yield notice_of(hostile_event(said, seq))


def every_kind() -> list[Notice]:
    traffic = Traffic(seed=5, tenants=3)
    of_receipts = [notice_of(stored(traffic.receipt(), n)) for n in range(1, 200)]
    levels = ("ok", "info", "warn", "critical", "strange")
    data = {"provider": "openai", "model_id": "gpt-4.1", "rule": "burn", "cap_usd": Decimal("5.25")}
    of_events = [
        notice_of(Event(kind=kind, at_ms=1_795_000_000_000, level=level, data=data, seq=9))
        for kind in KINDS
        for level in levels
    ]
    return [*of_receipts, *of_events]


# Every text comes back.


@pytest.mark.parametrize("count", [FEW, MANY])
def test_any_text_comes_back_out_of_cef(count: int) -> None:
    for notice in notices(count):
        line = cef.line(notice)
        assert len(line) <= cef.MOST_LINE
        header, told = read_cef(_one_line(line))
        assert header[:3] == ["modelspend", "modelspend", "0.1.0"]
        assert cef.read_back(header[3]) == notice.kind
        found = {key: cef.read_back(text) for key, text in told.items()}
        named = {found[f"{key}Label"]: found[key] for key in found if f"{key}Label" in found}
        assert named["tenant"] == notice.tenant
        assert named["sequence"] == str(notice.seq)
        assert named.get("model") == (notice.model or None)
        assert named.get("provider") == (notice.provider or None)
        assert found.get("sourceServiceName") == (notice.workflow or None)
        assert found.get("request") == notice.path
        assert found.get("reason") == (notice.reason or None)
        assert found["msg"] == cut(notice.message, 1023)
        assert (found["rt"], found["externalId"]) == (str(notice.at_ms), notice.uid)


@pytest.mark.parametrize("count", [FEW, MANY])
def test_any_text_comes_back_out_of_ecs(count: int) -> None:
    for notice in notices(count):
        told = json.loads(_one_line(ecs.line(notice)), parse_float=Decimal)
        ours = told["modelspend"]
        assert ours["tenant"] == told["organization"]["id"] == notice.tenant
        assert ours.get("model") == notice.model
        assert ours.get("provider") == notice.provider
        assert ours.get("session_id") == notice.session
        assert ours.get("details", {}) == notice.details
        assert tuple(ours.get("tags", ())) == notice.tags
        assert told.get("service", {}).get("name") == notice.workflow
        assert told.get("gen_ai", {}).get("request", {}).get("model") == notice.model_asked
        assert (told["message"], told["event"].get("reason")) == (notice.message, notice.reason)
        assert told["@timestamp"] == iso(notice.at_ms)


@pytest.mark.parametrize("count", [FEW, MANY])
def test_any_text_comes_back_out_of_ocsf(count: int) -> None:
    for notice in notices(count):
        told = json.loads(_one_line(ocsf.line(notice)), parse_float=Decimal)
        ours = told["unmapped"]
        assert told["metadata"]["tenant_uid"] == notice.tenant
        assert ours.get("model_asked") == notice.model_asked
        assert ours.get("workflow") == notice.workflow
        assert ours.get("region") == notice.region
        assert ours.get("rule") == notice.rule
        assert ours.get("details", {}) == notice.details
        assert tuple(told["metadata"].get("labels", ())) == notice.tags
        assert told["message"] == notice.message


@pytest.mark.parametrize("count", [FEW, MANY])
def test_any_text_comes_back_out_of_syslog_frames(count: int) -> None:
    for text in islice(texts(seed=7), count):
        sender = syslog.Sender(host=text, app=text, process=text, version=text)
        raw = text.encode()
        said = [
            syslog.message(raw, sender, at_ms=1, level="warn", kind=text, seq=n) for n in (1, 2)
        ]
        read = read_frames(b"".join(map(syslog.octets, said)))
        assert read == said
        told = read_message(read[1])
        assert told["text"] == raw
        assert told["pri"] == b"108"
        quoted = told["data"].decode().split('swVersion="')[1].split('"][meta ')[0]
        assert _unescape_value(quoted) == text


def _unescape_value(said: str) -> str:
    found, at = "", 0
    while at < len(said):
        escape = said[at] == "\\" and said[at + 1] in '"\\]'
        assert escape or said[at] not in '"]'
        found, at = found + said[at + escape], at + 1 + escape
    return found


@pytest.mark.parametrize("count", [FEW, MANY])
def test_any_text_comes_back_out_of_csv_and_no_cell_is_a_formula(count: int) -> None:
    said = list(islice(texts(seed=8), count))
    rows = [said[n : n + 4] for n in range(0, count, 4)]
    written = b"".join(map(csv_line, rows)).decode()
    read = list(csv.reader(io.StringIO(written, newline=""), strict=True))
    assert len(read) == len(rows)
    for row, cells in zip(rows, read, strict=True):
        assert [_uncelled(cell) for cell in cells] == row
        assert not any(cell.startswith(FORMULA) and not _number(cell) for cell in cells)


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def _number(cell: str) -> bool:
    try:
        return cell.isascii() and "_" not in cell and Decimal(cell).is_finite()
    except ArithmeticError:
        return False


def _uncelled(cell: str) -> str:
    """One apostrophe off, where it stands before a formula or before more of them and one."""
    quoted = cell.startswith("'") and cell.lstrip("'").startswith(FORMULA)
    return cell[1:] if quoted else cell


@pytest.mark.parametrize("count", [FEW, MANY])
def test_any_text_comes_back_out_of_focus(count: int) -> None:
    said = iter(list(islice(texts(seed=9), count)))
    uses = [
        focus.Use(20_000, tenant, workflow, provider, next(said), next(said), "input_tokens", "", 1)
        for tenant, workflow, provider in zip(said, said, said, strict=False)
        if count
    ][: count // 5]
    rows = [csv_line(row) for row in focus.rows(((use, 7) for use in uses), {})]
    text = io.StringIO((csv_line(focus.COLUMNS) + b"".join(rows)).decode(), newline="")
    read = list(csv.DictReader(text, strict=True))
    assert len(read) == len(uses)
    for use, cells in zip(uses, read, strict=True):
        found = {name: _uncelled(cell) for name, cell in cells.items()}
        assert found["SubAccountId"] == use.tenant
        assert found["ResourceName"] == use.model
        assert found["RegionId"] == use.region
        assert found["BillingAccountId"] == use.provider
        assert json.loads(found["Tags"]) == ({"workflow": use.workflow} if use.workflow else {})
        assert not any(one.startswith(FORMULA) and not _number(one) for one in cells.values())


@pytest.mark.parametrize("count", [FEW, MANY])
def test_any_text_comes_back_out_of_json_lines(count: int) -> None:
    said, traffic = texts(seed=10), Traffic(seed=5, tenants=3)
    for n in range(count // 9):
        receipt = hostile_receipt(traffic.receipt(), said)
        link = bytes(32)
        line = canonical(receipt)[:-1] + place(n + 1, link, link)
        assert b"\n" not in line
        told = json.loads(line)
        assert told["tenant"] == receipt.tenant
        assert told["workflow"] == receipt.workflow
        assert told["request"]["model"] == receipt.request.model
        assert told["tags"] == receipt.tags


CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def _one_line(line: bytes) -> str:
    """By the strictest reader of lines there is."""
    text = line.decode()
    assert text.splitlines() == [text]
    assert not any(
        (letter < " " and letter != "\t") or "\x7f" <= letter <= "\x9f" for letter in text
    )
    return text


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_100_000_texts_come_back_out_of_rsyslogs_own_parser_of_cef(tmp_path: Path) -> None:
    """`apt-get install liblognorm-utils`, then
    `pytest -m full tests/exporters/test_siem_formats.py -k rsyslogs`"""
    tool = shutil.which("lognormalizer")
    assert tool, "lognormalizer is not there: apt-get install liblognorm-utils"
    rules = tmp_path / "cef.rulebase"
    rules.write_text("version=2\nrule=:%f:cef%\n")
    said = list(notices(100_000))
    # 2.0.6 eats the first letter of the first key unless a space stands before it.
    lines = [cef.line(one).replace(b"|rt=", b"| rt=", 1) for one in said]
    done = subprocess.run(
        [tool, "-r", str(rules)], input=b"\n".join(lines) + b"\n", capture_output=True, check=True
    )
    read = [json.loads(line)["f"] for line in done.stdout.splitlines()]
    assert len(read) == len(said)
    for notice, one in zip(said, read, strict=True):
        assert one["SignatureID"] == notice.kind
        found = {key: cef.read_back(text) for key, text in one["Extensions"].items()}
        named = {found[f"{key}Label"]: found[key] for key in found if f"{key}Label" in found}
        assert named["tenant"] == notice.tenant
        assert named.get("model") == (notice.model or None)
        assert named.get("provider") == (notice.provider or None)
        assert found.get("sourceServiceName") == (notice.workflow or None)
        assert found.get("reason") == (notice.reason or None)
        assert found["msg"] == cut(notice.message, 1023)
        assert (found["rt"], named["sequence"]) == (str(notice.at_ms), str(notice.seq))


# CEF to the letter.


@pytest.mark.parametrize(
    ("text", "header", "value"),
    [
        ("a|b", r"a\|b", "a|b"),
        ("a=b", "a=b", r"a\=b"),
        ("a\\b", r"a\\b", r"a\\b"),
        ("a\nb", r"a\\u000ab", r"a\nb"),
        ("a\r\nb", r"a\\u000d\\u000ab", r"a\r\nb"),
        ("a\0b", r"a\\u0000b", r"a\\u0000b"),
        ("a\u2028b\u0085", r"a\\u2028b\\u0085", r"a\\u2028b\\u0085"),
        (r"a\u2028", r"a\\u005cu2028", r"a\\u005cu2028"),
        (r"a\uXYZ0", r"a\\uXYZ0", r"a\\uXYZ0"),
        ("tab\tß 日本 😀", "tab\tß 日本 😀", "tab\tß 日本 😀"),
    ],
)
def test_a_header_and_a_value_are_not_escaped_alike(text: str, header: str, value: str) -> None:
    assert cef.header(text, 100) == header
    assert cef.value(text, 100) == value


def test_a_line_of_cef_is_as_it_was() -> None:
    event = Event(
        kind="budget.exhausted", at_ms=1_795_000_000_123, level="critical", tenant="acme|prod",
        seq=7, data={"scope": "tenant", "why": "a=b\\c\nd", "cap_usd": Decimal("5.25")},
    )  # fmt: skip
    assert cef.line(notice_of(event)).decode() == (
        "CEF:0|modelspend|modelspend|0.1.0|budget.exhausted|A budget is exhausted|10|"
        "rt=1795000000123 externalId=evt_c17ec30bc44395772816295710 cat=budget.exhausted"
        r" act=exhausted reason=a\=b\\c\nd msg=A budget is exhausted: scope tenant,"
        r" why a\=b\\c\nd, cap_usd 5.25 cs1Label=tenant cs1=acme|prod"
        " flexNumber1Label=sequence flexNumber1=7"
    )


@pytest.mark.parametrize("letter", ["a", "=", "\\", "\n", "\0", "ß", "日", "😀", "e\u0301"])
def test_long_texts_are_cut_before_they_are_escaped_and_the_line_is_short(letter: str) -> None:
    long, traffic = letter * 100_000, Traffic(seed=5, tenants=3)
    receipt = hostile_receipt(traffic.receipt(), iter(lambda: long, None))
    for one in (stored(receipt), hostile_event(iter(lambda: long, None))):
        notice = notice_of(one)
        line = cef.line(notice)
        assert len(line) <= cef.MOST_LINE
        _, told = read_cef(_one_line(line))
        assert told["externalId"] == notice.uid
        assert len(told["externalId"]) <= 40
        tenant = cef.read_back(told["cs1"])
        assert tenant.endswith("…")
        assert long.startswith(tenant[:-1])
        assert all(len(text.encode()) <= MOST_TEXT for text in (notice.tenant, notice.message))
        for format in (ecs, ocsf):
            assert json.loads(_one_line(format.line(notice)))["message"] == notice.message


def test_each_text_of_cef_has_its_own_limit() -> None:
    for key, limit in (("msg", 1023), ("reason", 1023), ("cs1", 4000)):
        assert cef.LIMITS[key] == limit
        assert len(cef.value("x" * 5000, limit).encode()) == limit
        assert cef.value("x" * limit, limit) == "x" * limit


def test_a_label_stands_before_what_it_names_and_a_number_at_the_end() -> None:
    for notice in every_kind():
        line = _one_line(cef.line(notice))
        _, told = read_cef(line)
        keys = list(told)
        assert keys[:4] == ["rt", "externalId", "cat", "act"]
        for at, key in enumerate(keys):
            if key.startswith(("cs", "cn", "cfp", "flexNumber")) and not key.endswith("Label"):
                assert keys[at - 1] == f"{key}Label"
        assert line.rstrip() == line
        assert line[-1].isdigit()


# Severities and outcomes.


@pytest.mark.parametrize(
    ("level", "of_cef", "of_ocsf", "of_syslog"),
    [("info", 3, 1, 6), ("warn", 6, 3, 4), ("error", 8, 4, 3), ("critical", 10, 5, 2)],
)
def test_a_level_means_the_same_everywhere(
    level: Any, of_cef: int, of_ocsf: int, of_syslog: int
) -> None:
    event = Event(kind="x", at_ms=1, level=level, seq=1)
    notice = notice_of(event)
    assert read_cef(cef.line(notice).decode())[0][5] == str(of_cef)
    assert ecs.document(notice)["event"]["severity"] == of_cef
    assert ocsf.document(notice)["severity_id"] == of_ocsf
    sender = syslog.Sender(host="h")
    said = syslog.message(b"", sender, at_ms=1, level=level, kind="x", seq=1)
    assert said.startswith(f"<{13 * 8 + of_syslog}>1 1970-01-01T00:00:00.001Z h ".encode())


@pytest.mark.parametrize("status", list(Status))
def test_how_a_call_ended_is_told(status: Status) -> None:
    receipt = Traffic(seed=5, tenants=3).receipt()
    notice = notice_of(
        stored(replace(receipt, execution=replace(receipt.execution, status=status)))
    )
    well = status in ("success", "cached")
    assert notice.outcome == ("success" if well else "failure")
    assert (notice.level == "info") is well
    kinds = ecs.document(notice)["event"]["type"]
    assert ("denied" in kinds) is (status in ("refused", "budget_stopped"))
    assert ("allowed" in kinds) is well
    assert ocsf.document(notice)["status_id"] == (1 if well else 2)


# What is not in it.


def test_no_word_of_an_error_or_of_a_body_is_told() -> None:
    receipt = Traffic(seed=5, tenants=3).receipt()
    last = receipt.attempts[-1]
    usage = replace(last.usage, raw={"secret": "a SECRET prompt"})
    hidden = replace(
        receipt,
        execution=replace(receipt.execution, error="a SECRET prompt", status=Status.ERROR),
        attempts=(*receipt.attempts[:-1], replace(last, usage=usage)),
    )
    for format in FORMATS.values():
        assert b"SECRET" not in format.line(notice_of(stored(hidden)))


def test_half_a_letter_becomes_a_mark_and_the_other_formats_still_read() -> None:
    assert plain("a\ud800b") == "a\ufffdb"
    assert plain("\ud83d\ude00") == "😀"
    notice = notice_of(Event(kind="x", at_ms=1, tenant="a\udfff", data={"k\ud800": ["\ud800"]}))
    assert notice.details == {"k\ufffd": ["\ufffd"]}
    assert read_cef(cef.line(notice).decode())[1]["cs1"] == "a\ufffd"
    for format in (ecs, ocsf):
        assert "a\ufffd" in format.line(notice).decode()


def test_the_same_thing_has_the_same_id_and_another_has_another() -> None:
    event = Event(kind="x", at_ms=1, seq=4)
    assert notice_of(event).uid == notice_of(replace(event, data={"n": 1})).uid
    others = [replace(event, seq=5), replace(event, at_ms=2), replace(event, kind="y")]
    assert len({notice_of(one).uid for one in (event, *others)}) == 4
    receipt = Traffic(seed=5).receipt()
    assert notice_of(stored(receipt)).uid == receipt.receipt_id


def test_dollars_are_exact_and_what_is_unknown_is_left_out() -> None:
    receipt = Traffic(seed=5, tenants=3).receipt()
    for pico, said in ((12_096_000_001, "0.012096000001"), (0, "0"), (None, None)):
        done = replace(receipt.execution, actual_cost_pico=pico)
        notice = notice_of(stored(replace(receipt, execution=done)))
        assert read_cef(cef.line(notice).decode())[1].get("cfp1") == said
        for format, ours in ((ecs, "modelspend"), (ocsf, "unmapped")):
            told = json.loads(format.line(notice), parse_float=str, parse_int=str)[ours]
            assert told.get("cost_usd") == said


# The published schemas.


@cache
def _ocsf_class(class_uid: int) -> Any:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=ocsf.VERSION))
    found = schema.get_class_schema(schema.lookup_class_name_from_uid(class_uid))
    return jsonschema.Draft202012Validator(found)


def _judged(notice: Notice) -> list[str]:
    told = json.loads(ocsf.line(notice))
    return [error.message for error in _ocsf_class(told["class_uid"]).iter_errors(told)]


def test_every_line_of_ocsf_is_valid_by_the_published_schemas() -> None:
    for notice in every_kind():
        assert _judged(notice) == []
    told = [ocsf.document(notice) for notice in every_kind()]
    assert {one["class_uid"] for one in told} == {6003, 2004, 0}
    for one in told:
        assert one["type_uid"] == one["class_uid"] * 100 + one["activity_id"]
        assert one["category_uid"] == one["class_uid"] // 1000


def test_an_alert_is_one_finding_from_its_first_event_to_its_last() -> None:
    told = [
        ocsf.document(notice_of(Event(kind=kind, at_ms=n, seq=n, data={"alert": "burn/acme"})))
        for n, kind in enumerate(("alert.fired", "alert.escalated", "alert.resolved"), 1)
    ]
    assert {one["finding_info"]["uid"] for one in told} == {"burn/acme"}
    assert [one["activity_id"] for one in told] == [1, 2, 3]
    assert [one["status_id"] for one in told] == [1, 1, 4]
    assert len({one["metadata"]["uid"] for one in told}) == 3


def test_hostile_lines_of_ocsf_are_valid_too() -> None:
    for notice in islice(notices(FEW), 100):
        assert _judged(notice) == []


def test_the_judge_of_ocsf_bites() -> None:
    notice = every_kind()[0]
    told = json.loads(ocsf.line(notice))
    for broken in ({**told, "made_up": 1}, {k: v for k, v in told.items() if k != "time"}):
        assert list(_ocsf_class(6003).iter_errors(broken))


FIELDS: Mapping[str, Any] = json.loads(Path(__file__).with_name("ecs_9_4.json").read_text("utf-8"))[
    "fields"
]
TYPES: Mapping[str, tuple[type, ...]] = {
    "keyword": (str,), "wildcard": (str,), "match_only_text": (str,), "date": (str,),
    "long": (int,), "integer": (int,),
}  # fmt: skip


def _leaves(shape: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in shape.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def _strange_to_ecs(notice: Notice) -> list[str]:
    told = json.loads(ecs.line(notice))
    found = []
    for name, value in _leaves({key: told[key] for key in told if key != "modelspend"}):
        known = FIELDS.get(name)
        several = isinstance(value, list)
        if known is None:
            found.append(f"{name} is no field")
            continue
        if several is not known.get("array", False):
            found.append(f"{name} is a list, or should be one")
        for one in value if several else [value]:
            if not isinstance(one, TYPES[known["type"]]):
                found.append(f"{name} is no {known['type']}")
            if "allowed" in known and one not in known["allowed"]:
                found.append(f"{name} may not be {one}")
    for category in told["event"].get("category", ()):
        expected = FIELDS["event.category"]["allowed"][category]
        strange = set(told["event"]["type"]) - set(expected)
        found += [f"{category} does not go with {one}" for one in strange]
    return found


def test_every_line_of_ecs_has_fields_that_ecs_has() -> None:
    for notice in [*every_kind(), *islice(notices(FEW), 100)]:
        assert _strange_to_ecs(notice) == []


def test_the_judge_of_ecs_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    notice = every_kind()[0]
    monkeypatch.setitem(FIELDS, "log.level", {"type": "long"})  # type: ignore[arg-type]
    monkeypatch.delitem(FIELDS, "event.dataset")  # type: ignore[arg-type]
    assert _strange_to_ecs(notice) == ["event.dataset is no field", "log.level is no long"]
