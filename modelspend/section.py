"""What a section of the settings is made of: kinds of values with their limits, and its strictness.

A value is taken for what it says: in a file the text "8787" is no number and `true` no 1;
variables know only text, so for them (context `textual`) the usual conversions hold.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from modelspend import periods, windows
from modelspend.money import from_usd, from_usd_per_million

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]
SinkUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#@]+(/[^\s#]*)?$")]
FilePath = Annotated[str, StringConstraints(pattern=r"^(/|~/|[A-Za-z]:[\\/]).*[^\\/]$")]
SYSLOG = r"(tls|tcp|udp)://([^\s/?#@:\[\]]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
SiemPlace = Annotated[
    str,
    StringConstraints(
        pattern=rf"^({SYSLOG}|https?://[^\s/?#@]+(/[^\s#]*)?|(/|~/|[A-Za-z]:[\\/]).*[^\\/])$"
    ),
]
Wait = Annotated[float, Field(gt=0, le=604_800)]
EventType = Annotated[str, StringConstraints(pattern=r"^([a-z0-9_.]+\*?|\*)$")]


def _whole_per_million(price: Decimal) -> Decimal:
    return _exact(price, from_usd_per_million)


def _whole_per_thousand(price: Decimal) -> Decimal:
    return _exact(price, lambda thousand: from_usd(thousand / 1000))


def _exact(price: Decimal, read: Callable[[Decimal], int]) -> Decimal:
    try:
        read(price)
    except ValueError:
        raise ValueError(f"{price:f} is finer than a pico-dollar (1e-12 USD) apiece") from None
    return price


PerMillion = Annotated[Decimal, Field(ge=0, le=1_000_000), AfterValidator(_whole_per_million)]
PerThousand = Annotated[Decimal, Field(ge=0, le=1_000_000), AfterValidator(_whole_per_thousand)]


def _whole_pico(amount: Decimal) -> Decimal:
    return _exact(amount, from_usd)


def _an_instant(text: str) -> str:
    periods.instant(text, 0)
    return text


def _a_model(name: str) -> str:
    if not all(name.partition("/")[::2]):
        raise ValueError('a price is named "provider/model", such as "openai/gpt-4.1"')
    return name


def _a_window(text: str) -> str:
    windows.parse(text)
    return text


def _a_zone(name: str) -> str:
    windows.zone_of(name)
    return name


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError("two numbers above 0: from where on it warns, from where it is critical")
    return limits


Levels = Annotated[tuple[float, float], AfterValidator(_rising)]
WindowText = Annotated[str, AfterValidator(_a_window)]
Zone = Annotated[str, AfterValidator(_a_zone)]
Cap = Annotated[Decimal, Field(ge=0, le=4_000_000), AfterValidator(_whole_pico)]
Instant = Annotated[str, AfterValidator(_an_instant)]
ModelKey = Annotated[str, AfterValidator(_a_model)]


class Section(BaseModel):
    """A table of settings: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_quiet_conversion(
        cls, value: Any, convert: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        """Refuse what pydantic would turn into another kind of value without a word."""
        result = convert(value)
        textual = bool(info.context and info.context.get("textual"))
        if not textual and isinstance(result, (int, float, Decimal)) and not _same(value, result):
            raise PydanticCustomError(
                "quiet_conversion", "{said}", {"said": _unquote(value, result)}
            )
        return result


def _same(value: object, result: object) -> bool:
    """Whether a value already was what it became: a whole number may become any number."""
    if isinstance(result, bool) or isinstance(value, bool):
        return isinstance(result, bool) and isinstance(value, bool)
    return isinstance(value, int if isinstance(result, int) else (int, float, Decimal))


def _unquote(value: object, result: object) -> str:
    shown = str(result).lower() if isinstance(result, bool) else f"{result}"
    return f"found {_name_of(value)} where {_name_of(result)} belongs; write {shown}"


def _name_of(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int):
        return "a whole number"
    return "a text" if isinstance(value, str) else "a number"
