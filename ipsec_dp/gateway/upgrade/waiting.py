"""Packets that wait for an SA go along: by the names of what they belong to, since numbers are each data plane's own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from ipsec_dp.dataplane import Encapsulation
from ipsec_dp.dataplane.kept import KeptPacket
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.util.leaves import Here
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.ipsec.addresses import Address

log = logging.getLogger(__name__)

NS_PER_S: Final = 1e9


class WaitingPacket(Struct, frozen=True, forbid_unknown_fields=True):
    """`tunnel` and `interface`: empty of ESP that came before its SA, which has its SPI and its ends."""

    packet: Here[KeptPacket]
    tunnel: Here[str] = ""
    interface: Here[str] = ""


def waiting_in(plane: DataPlane, spd: Spd) -> list[WaitingPacket]:
    """In their order; they wait on there. While receiving is paused. SAs are worth more than these: without them where they cannot
    be had."""
    tunnels, interfaces = spd.tunnel_names, spd.interface_names
    try:
        kept = plane.export_kept()
    except DataPlaneError as error:
        log.warning("packets that wait for an SA do not come along: %s", error, extra=told("upgrade_not_taken"))
        return []
    return [
        WaitingPacket(each) if each.spi else WaitingPacket(each, tunnels.get(each.tunnel, ""), interfaces.get(each.interface, ""))
        for each in kept
    ]


def wait_on(
    waiting: Sequence[WaitingPacket],
    plane: DataPlane,
    spd: Spd,
    link: Callable[[Address, Encapsulation], int | None],
    now: float,
) -> None:
    """They wait on here, since when they did. Those for which there is no room, or no SA any more, are dropped; all are wiped.
    `link`: the number of the outer sockets of an address; `now`: seconds of the host's clock. While receiving is paused."""
    lost: list[Exception] = []
    for each in waiting:
        try:
            plane.import_kept(_ours(each, spd, link), round(now * NS_PER_S))
        except (DataPlaneError, LookupError, ValueError) as error:
            lost.append(error)
        finally:
            each.packet.wipe()
    if lost:
        log.warning(
            "%d of %d packets that wait for an SA did not come along, the last for: %s",
            len(lost),
            len(waiting),
            lost[-1],
            extra=told("upgrade_not_taken"),
        )


def _ours(waiting: WaitingPacket, spd: Spd, link: Callable[[Address, Encapsulation], int | None]) -> KeptPacket:
    """With our numbers, and the same octets. Raises LookupError, ValueError: there is no such thing here."""
    packet = waiting.packet
    if not packet.spi:
        if waiting.tunnel not in spd.tunnel_numbers or waiting.interface not in spd.interface_numbers:
            raise LookupError("their tunnel is not here")
        numbers = {"tunnel": spd.tunnel_numbers[waiting.tunnel], "interface": spd.interface_numbers[waiting.interface]}
        return msgspec.structs.replace(packet, **numbers)
    if packet.local is None or (number := link(packet.local.endpoint.address, Encapsulation(packet.encapsulation))) is None:
        raise LookupError("their outer sockets are not here")
    return msgspec.structs.replace(packet, link=number)
