"""What the data plane tells the control plane: events of the SAD, as they are made of its punts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipsec_dp.dataplane import Offload, PuntKind, SaCondition

if TYPE_CHECKING:
    from ipsec_dp.dataplane import Endpoint, Punt
    from ipsec_dp.ipsec.addresses import Address


@dataclass(frozen=True, slots=True)
class Acquire:
    """A packet found no SA; `packet` is its beginning."""

    tunnel: int
    interface: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class IkeDatagram:
    """An IKE message that arrived on the port that ESP uses, without its non-ESP marker (RFC 3948 §2.2)."""

    link: int
    local: Endpoint | None
    remote: Endpoint | None
    message: bytes


@dataclass(frozen=True, slots=True)
class UnknownSpi:
    """ESP for no SA of ours, from anybody at all."""

    spi: int
    local: Endpoint | None
    remote: Endpoint | None


@dataclass(frozen=True, slots=True)
class DeviceFailure:
    """A TUN device (`interface`) or an outer socket (`link`) failed; the other one is None."""

    interface: int | None
    link: int | None
    error: int


@dataclass(frozen=True, slots=True)
class OffloadLoss:
    """An offload of a TUN device (`interface`) or of an outer socket (`link`) was given up; `on` is what is left."""

    interface: int | None
    link: int | None
    error: int
    on: Offload


@dataclass(frozen=True, slots=True)
class SendRefusal:
    """This host itself (EMSGSIZE) took no outer packet of `octets` between these addresses."""

    local: Address
    remote: Address
    octets: int


Event = Acquire | SaCondition | IkeDatagram | UnknownSpi | DeviceFailure | OffloadLoss | SendRefusal

_NONE = 2**32 - 1
_NO_LINK = 2**16 - 1


def _device(punt: Punt) -> tuple[int | None, int | None]:
    """The interface or the link that a punt is about."""
    return None if punt.interface == _NONE else punt.interface, None if punt.link == _NO_LINK else punt.link


def event_of(punt: Punt) -> Event | None:
    """None where nothing is to be done; also of the condition of an SA, which `Sad` tells by what it has told before."""
    match punt.kind:
        case PuntKind.SA:
            return None
        case PuntKind.IKE:
            return IkeDatagram(punt.link, punt.local, punt.remote, punt.payload)
        case PuntKind.UNKNOWN_SPI:
            return UnknownSpi(punt.spi, punt.local, punt.remote)
        case PuntKind.ACQUIRE:
            return Acquire(punt.tunnel, punt.interface, punt.payload)
        case PuntKind.IO_ERROR:
            return DeviceFailure(*_device(punt), punt.error)
        case PuntKind.OFFLOAD:
            return OffloadLoss(*_device(punt), punt.error, Offload(int(punt.flags)))
        case PuntKind.TOO_BIG:
            if punt.local is None or punt.remote is None:
                return None
            return SendRefusal(punt.local.address, punt.remote.address, int(punt.flags))
