"""Records: compared, hashed and shown by their fields, as dataclasses are."""

from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from modelspend.record import frozen, record


@record
class Point:
    x: int
    y: int = 0
    note: str = field(default="", compare=False)
    secret: str = field(default="s", repr=False)


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Likewise:
    x: int
    y: int = 0
    note: str = field(default="", compare=False)
    secret: str = field(default="s", repr=False)


@frozen
class Place:
    x: int
    y: int = 0


@frozen(kw_only=True)
class Named:
    x: int


@frozen
class Only:
    x: float


@frozen
class Partly:
    x: int
    more: list[int] = field(default_factory=list, hash=False)


@record
class Nothing:
    pass


@record
class Loud:
    x: int

    def __repr__(self) -> str:
        return "loud"

    def __eq__(self, other: object) -> bool:
        return True


def test_records_are_equal_where_all_that_is_compared_is() -> None:
    assert Point(x=1, note="a") == Point(x=1, note="b")
    assert Point(x=1) != Point(x=1, secret="t")
    assert Point(x=1) != Likewise(x=1)
    assert Nothing() == Nothing() != Point(x=1)
    assert {Point(x=1), Point(x=1, note="b"), Point(x=2)} == {Point(x=1), Point(x=2)}
    assert hash(Point(x=1)) == hash(Likewise(x=1))


def test_one_field_is_compared_as_several_are() -> None:
    unknown = float("nan")

    assert Only(unknown) == Only(unknown)
    assert Only(1.0) != Only(2.0)


def test_what_is_not_hashed_is_compared_all_the_same() -> None:
    assert hash(Partly(1, [2])) == hash(Partly(1, [3]))
    assert Partly(1, [2]) != Partly(1, [3])


def test_a_record_shows_what_a_dataclass_shows() -> None:
    assert repr(Point(x=1, note="a")) == repr(Likewise(x=1, note="a")).replace("Likewise", "Point")
    assert repr(Nothing()) == "Nothing()"


def test_what_a_class_says_of_itself_counts() -> None:
    assert repr(Loud(x=1)) == "loud"
    assert Loud(x=1) == Loud(x=2)


def test_a_record_is_a_dataclass_with_slots_and_keywords() -> None:
    assert [each.name for each in fields(Point)] == ["x", "y", "note", "secret"]  # type: ignore[arg-type]
    assert replace(Point(x=1, y=2), x=3) == Point(x=3, y=2)  # type: ignore[type-var]
    assert not hasattr(Point(x=1), "__dict__")
    with pytest.raises(TypeError):
        Point(1)  # type: ignore[misc]


def test_what_is_frozen_stays_as_it_is() -> None:
    place = Place(1, 2)
    assert place == Place(x=1, y=2) != Place(1, 3)
    assert {place: "here"}[Place(1, 2)] == "here"
    assert repr(place) == "Place(x=1, y=2)"
    for one in (place, Named(x=1)):
        with pytest.raises(FrozenInstanceError):
            one.x = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        Named(1)  # type: ignore[misc]
