"""What the parts of the model have in common: plain values that show none of themselves."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from ipsec_dp.ike.errors import IkeError


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
