"""Values that are never changed once made: held by the type checker, not at run time.

A frozen dataclass sets each field through `object.__setattr__`, which costs three times as much;
a call makes some twenty values of ten fields. So what is made on the request path is a `record`:
assigning to one is an error of `mypy --strict`, which every change passes. All else is frozen.
"""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(kind: type[T]) -> type[T]:
    """A class of values: keyword-only, compared and hashed by its fields, with slots."""
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(kind)
