"""What is typed for types of events."""

import pytest

from modelspend.events import Event, kinds


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("circuit.open", ("circuit.open",)),
        ("circuit.*, Failover ", ("circuit.*", "failover")),
        ("*", ("*",)),
        ("ledger*", ("ledger*",)),
        ("", ()),
        (" , ", ()),
    ],
)
def test_types_are_names_or_their_starts(text: str, found: tuple[str, ...]) -> None:
    assert kinds(text) == found


@pytest.mark.parametrize("text", ["circuit.?", "[a]", "*.open", "a*b", "a b", "circuit.open'"])
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write circuit\.open"):
        kinds(text)


def test_an_event_is_told_with_its_number_and_its_time() -> None:
    event = Event(seq=7, kind="circuit.open", at_ms=1_793_491_200_000, data={"provider": "groq"})
    assert event.to_json() == {
        "seq": 7,
        "created_at": "2026-11-01T00:00:00.000Z",
        "type": "circuit.open",
        "level": "info",
        "tenant": None,
        "receipt_id": None,
        "data": {"provider": "groq"},
    }
