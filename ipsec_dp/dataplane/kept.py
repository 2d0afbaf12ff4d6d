"""Packets that wait for an SA as values that go to another data plane: those of a tunnel that is coming up, which are in the clear,
and ESP that came before its SA."""

from __future__ import annotations

import errno
from typing import Any, Final

from msgspec import Struct

from ipsec_dp._native import ffi
from ipsec_dp.dataplane.carried import EndpointValue, endpoint_value
from ipsec_dp.dataplane.convert import set_endpoint
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.util.leaves import Here

_ALIGN: Final = 8
_NUMBERS: Final = (
    *("since", "spi", "tunnel", "interface", "link", "gso_size", "checksum_start", "checksum_offset", "lent_protocol", "gso_type"),
    *("needs_checksum", "remembered", "lent", "tos", "encapsulation", "tunnel_checksum", "worker"),
)


class KeptPacket(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One, as `struct dp_kept` has it: of an `spi`, or of `tunnel` and `interface`, which are numbers of the data plane that it was
    in. `since`: nanoseconds of the host's clock. Whoever has it wipes `packet`."""

    packet: Here[bytearray]
    since: Here[int]
    spi: Here[int] = 0
    tunnel: Here[int] = 0
    interface: Here[int] = 0
    link: Here[int] = 0
    local: Here[EndpointValue | None] = None
    remote: Here[EndpointValue | None] = None
    gso_size: Here[int] = 0
    gso_type: Here[int] = 0
    needs_checksum: Here[int] = 0
    checksum_start: Here[int] = 0
    checksum_offset: Here[int] = 0
    lent_protocol: Here[int] = 0
    lent_ports: Here[tuple[int, int]] = (0, 0)
    remembered: Here[int] = 0
    lent: Here[int] = 0
    tos: Here[int] = 0
    encapsulation: Here[int] = 0
    tunnel_checksum: Here[int] = 0
    worker: Here[int] = 0

    def __repr__(self) -> str:
        return f"<KeptPacket of {len(self.packet)} octets>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def wipe(self) -> None:
        """Overwrites the packet with zeros."""
        self.packet[:] = bytes(len(self.packet))


def packets_of(records: bytearray) -> list[KeptPacket]:
    """What `dp_kept_export` wrote, as values; it is wiped."""
    found, at, size = [], 0, ffi.sizeof("struct dp_kept")
    view = memoryview(records)
    while at < len(records):
        c = ffi.from_buffer("struct dp_kept *", view[at : at + size])
        at += size
        numbers = {name: getattr(c, name) for name in _NUMBERS}
        ports, ends = (c.lent_port[0], c.lent_port[1]), (endpoint_value(c.local), endpoint_value(c.remote))
        packet = bytearray(view[at : at + c.octets])
        found.append(KeptPacket(packet=packet, lent_ports=ports, local=ends[0], remote=ends[1], **numbers))
        at += -(-c.octets // _ALIGN) * _ALIGN
    records[:] = bytes(len(records))
    return found


def kept_of(packet: KeptPacket) -> Any:
    """The inverse, without the packet. Raises DataPlaneError (EINVAL)."""
    c = ffi.new("struct dp_kept *")
    try:
        for name in _NUMBERS:
            setattr(c, name, getattr(packet, name))
        c.octets, c.lent_port[0], c.lent_port[1] = len(packet.packet), *packet.lent_ports
        for name, end in (("local", packet.local), ("remote", packet.remote)):
            if end is not None:
                set_endpoint(getattr(c, name), end.endpoint)
    except (OverflowError, ValueError):
        raise DataPlaneError(errno.EINVAL, f"{packet!r} has a number that none can be") from None
    return c
