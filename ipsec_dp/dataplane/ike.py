"""What the C core knows of IKE: whose messages reach the control plane, and how many of anybody's (``native/ike_gate.h``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.convert import check, endpoint_of, set_address, set_endpoint
from ipsec_dp.dataplane.devices import Devices

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.dataplane.types import Endpoint, Offload
    from ipsec_dp.ipsec.addresses import AddressRange

MESSAGE_ROOM = 65535 + 128  # a record of the largest message
READ_ROOM = 2 * MESSAGE_ROOM


@dataclass(frozen=True, slots=True)
class IkeRates:
    """Messages a second at each of the ports 500 and 4500; 0: without limit, of cookies: none. As ``struct dp_config`` has them."""

    begin: int = 0
    other: int = 0
    proven: int = 0
    proven_at_once: int = 0
    proven_in_all: int = 0
    repeats: int = 0
    repeats_at_once: int = 0
    cookies: int = 0
    cookies_on_nat_port: int = 0
    first_cookies: int = 0
    cookie_seen_seconds: int = 0
    cookie_seconds: int = 0


@dataclass(frozen=True, slots=True)
class IkeSaKey:
    """Transforms by number, and encryption key, salt and integrity key behind each other; its owner wipes it."""

    encr: int
    integ: int
    key_octets: int
    keymat: bytes | bytearray = field(repr=False)


class IkeMessages(NamedTuple):
    """Those that a socket had for the control plane, with their senders, and how many datagrams were read."""

    messages: list[tuple[bytes, Endpoint]]
    seen: int


class IkeGate(Devices):
    """The IKE SAs that the core knows, and what it reads of port 500."""

    def __init__(self, dp: Any, wanted: Offload) -> None:
        super().__init__(dp, wanted)
        self._read_room = ffi.new("uint8_t[]", READ_ROOM)

    def set_ike_sa(self, own_spi: bytes, peer_spi: bytes, *, initiator: bool, nat_port: bool, key: IkeSaKey | None) -> None:
        """An IKE SA is there, or has changed. `key`: of the peer's messages, once the peer is authenticated. DataPlaneError."""
        c = ffi.new("struct dp_ike_sa_params *", {"initiator": initiator, "nat_port": nat_port})
        ffi.memmove(c.own_spi, own_spi, 8)
        ffi.memmove(c.peer_spi, peer_spi, 8)
        keymat, octets = ffi.NULL, 0
        if key is not None:
            c.encr, c.integ, c.key_octets = key.encr, key.integ, key.key_octets
            keymat = ffi.from_buffer("uint8_t[]", key.keymat)
            octets = len(keymat)
        check(lib.dp_ike_sa_set(self.c, c, keymat, octets), "telling the data plane of an IKE SA")

    def remove_ike_sa(self, own_spi: bytes) -> None:
        """DataPlaneError (ENOENT)."""
        check(lib.dp_ike_sa_remove(self.c, own_spi), "taking an IKE SA from the data plane")

    def set_cookie_secret(self, secret: bytes) -> None:
        """Cookies follow from it (`ike.strangers.Cookies`), and none is good that followed from another. DataPlaneError."""
        check(lib.dp_ike_cookie_secret(self.c, secret, len(secret)), "setting the secret of cookies")

    def set_quiet(self, ranges: Iterable[AddressRange]) -> None:
        """No COOKIE answer goes to these addresses, which do not overlap. DataPlaneError."""
        ordered = sorted(ranges, key=lambda one: (one.low.version, int(one.low)))
        array = ffi.new("struct dp_range[]", len(ordered))
        for c, one in zip(array, ordered, strict=True):
            c.family = one.low.version
            set_address(c.low, one.low)
            set_address(c.high, one.high)
        check(lib.dp_ike_quiet_set(self.c, array, len(ordered)), "saying where no COOKIE answer goes")

    def receive_ike(self, descriptor: int, local: Endpoint, now: int, budget: int, passes: int) -> IkeMessages:
        """Reads a socket of port 500 until it is empty, `budget` datagrams were read, or `passes` of them are for the control
        plane."""
        c, seen = ffi.new("struct dp_addr *"), ffi.new("uint32_t[2]", [budget, passes])
        set_endpoint(c, local)
        used = lib.dp_ike_receive(self.c, descriptor, c, seen, now, self._read_room, READ_ROOM)
        check(used, f"reading port {local.port} of {local.address}")
        messages, at, header = list[tuple[bytes, "Endpoint"]](), 0, ffi.sizeof("struct dp_punt")
        while at < used:
            record = ffi.cast("struct dp_punt *", self._read_room + at)
            remote = endpoint_of(record.remote)
            if remote is not None:
                messages.append((bytes(ffi.buffer(self._read_room + at + header, record.octets)), remote))
            at += header + record.octets + -(header + record.octets) % 8
        return IkeMessages(messages, seen[0])
