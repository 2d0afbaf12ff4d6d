"""What the parts of the model have in common: plain values that show none of themselves."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec.inspect as shape
from cryptography.exceptions import UnsupportedAlgorithm
from msgspec import Struct

from ipsec_dp.ike.errors import IkeError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class CarriedStateError(IkeError):
    """What was to be carried cannot be: it is of a newer version, was cut or changed, or says what cannot be."""


UNSOUND: Final = (IkeError, ArithmeticError, LookupError, RuntimeError, TypeError, UnsupportedAlgorithm, ValueError)
"""What is raised for state that says what cannot be, wherever it is looked at."""


class CarriedPart(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Every part of the model is one of these."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def wipe(self) -> None:
        """Overwrites every key in it with zeros, and in what it is made of."""
        for name in _with_keys(type(self)):
            _wipe(getattr(self, name))


class Value(Struct, frozen=True, array_like=True):
    """A small one without a key, of which there are many: its fields by their order. Where it stands says where it may go."""


@contextmanager
def wiped_on_error(parts: Collection[CarriedPart]) -> Iterator[None]:
    """Where what is done with them fails, no key is left in those that are there by then."""
    try:
        yield
    except BaseException:
        for part in parts:
            part.wipe()
        raise


@cache
def _with_keys(part: type[CarriedPart]) -> tuple[str, ...]:
    """The fields of this part that keys may be in: nine of ten values are none, and looking at each takes longer than wiping."""
    found = shape.type_info(part)
    return tuple(field.name for field in found.fields if _may_hold(field.type)) if isinstance(found, shape.StructType) else ()


def _may_hold(of: shape.Type) -> bool:
    match of:
        case shape.Metadata():
            return _may_hold(of.type)
        case shape.StructType():
            return issubclass(of.cls, CarriedPart) and bool(_with_keys(of.cls))
        case shape.ListType():
            return _may_hold(of.item_type)
        case shape.UnionType():
            return any(map(_may_hold, of.types))
    return isinstance(of, shape.ByteArrayType)


def _wipe(value: object) -> None:
    if isinstance(value, bytearray):
        value[:] = bytes(len(value))
    elif isinstance(value, CarriedPart):
        value.wipe()
    elif isinstance(value, list) and value and isinstance(value[0], bytearray | CarriedPart):
        for one in value:
            _wipe(one)
