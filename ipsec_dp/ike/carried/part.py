"""What the parts of the model have in common: plain values that show none of themselves, and of each field where it may go."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

from msgspec import Meta, Struct

from ipsec_dp.ike.errors import IkeError

T = TypeVar("T")

NEVER: Final = "never"
SEALED: Final = "sealed"
LEAVES: Final = "leaves"  # the key under which a field says whether it may leave the host

Here = Annotated[T, Meta(extra={LEAVES: NEVER})]
"""A field that means something on this host alone: a number, an instant of its clock, an address of its own."""
Sealed = Annotated[T, Meta(extra={LEAVES: SEALED})]
"""A field that may leave the host one day, and then sealed alone, be it a key or not."""


class CarriedStateError(IkeError):
    """What was to be carried cannot be: it is of a newer version, was cut or changed, or says what cannot be."""


class CarriedPart(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Every part of the model is one of these."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def wipe(self) -> None:
        """Overwrites every key in it with zeros, and in what it is made of."""
        for name in self.__struct_fields__:
            _wipe(getattr(self, name))


class Value(Struct, frozen=True, array_like=True):
    """A small one without a key, of which there are many: its fields by their order. Where it stands says where it may go."""


def _wipe(value: object) -> None:
    if isinstance(value, bytearray):
        value[:] = bytes(len(value))
    elif isinstance(value, CarriedPart):
        value.wipe()
    elif isinstance(value, list) and value and isinstance(value[0], bytearray | CarriedPart):
        for one in value:
            _wipe(one)
