"""Values that are never changed once made.

A frozen dataclass sets each field through `object.__setattr__`, which costs three times as much;
a call makes some twenty values of ten fields. So what is made on the request path is a `record`,
held by the type checker alone: assigning to one is an error of `mypy --strict`, which every change
passes. All else is `frozen`, and an assignment raises.

A dataclass also compiles what compares, hashes and shows it, class by class, which was a tenth of
the start of each command. Here a few functions do the same for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(kind: type[T]) -> type[T]:
    """A class of values with slots: keyword-only, compared and hashed by its fields."""
    return _finished(dataclass(slots=True, kw_only=True, repr=False, eq=False)(kind))


@overload
def frozen(kind: type[T]) -> type[T]: ...


@overload
def frozen(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(kind: Any = None, *, kw_only: bool = False) -> Any:
    """The same, where assigning to a field raises FrozenInstanceError; by position, too."""

    def made(kind: type[T]) -> type[T]:
        plain = dataclass(frozen=True, slots=True, kw_only=kw_only, repr=False, eq=False)
        return _finished(plain(kind))

    return made(kind) if kind else made


def _finished(made: type[T]) -> type[T]:
    known = fields(made)  # type: ignore[arg-type]
    compared = _values([each.name for each in known if each.compare])
    hashed = _values(
        [each.name for each in known if (each.compare if each.hash is None else each.hash)]
    )
    shown = [each.name for each in known if each.repr]

    def same(self: T, other: object) -> Any:
        alike = other.__class__ is self.__class__
        return compared(self) == compared(other) if alike else NotImplemented

    def told(self: T) -> str:
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{self.__class__.__qualname__}({said})"

    for name, method in {
        "__eq__": same,
        "__hash__": lambda self: hash(hashed(self)),
        "__repr__": told,
    }.items():
        if name not in made.__dict__:
            setattr(made, name, method)
    return made


def _values(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Of several at once; of one it would be the bare value, which need not equal itself."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda of: tuple(getattr(of, name) for name in names)
