"""What the C core knows of IKE: whose messages reach the control plane, and how many of anybody's (``native/ike_gate.h``)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ipsec_dp._native import ffi, lib
from ipsec_dp.dataplane.convert import check, punt_of, set_address, set_endpoint
from ipsec_dp.dataplane.devices import Devices
from ipsec_dp.dataplane.types import PUNT_OCTETS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.dataplane.types import Endpoint, Offload, Punt
    from ipsec_dp.ipsec.addresses import Address, AddressRange


@dataclass(frozen=True, slots=True)
class IkeRates:
    """Messages a second at each of the ports 500 and 4500; 0: without limit, of cookies: none. As ``struct dp_config`` has them."""

    begin: int = 0
    other: int = 0
    ikev1: int = 0
    ikev1_at_once: int = 0
    ikev1_in_all: int = 0
    isakmp: int = 0
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


class IkeGate(Devices):
    """The IKE SAs that the core knows, and what it reads of port 500."""

    def __init__(self, dp: Any, wanted: Offload) -> None:
        super().__init__(dp, wanted)
        self._record = bytearray(PUNT_OCTETS_MAX)

    def set_ike_sa(
        self, own_spi: bytes, peer_spi: bytes, *, initiator: bool, nat_port: bool, key: IkeSaKey | None, isakmp: bool = False
    ) -> None:
        """An IKE SA is there, or has changed. `key`: of the peer's messages, once the peer is authenticated; one of IKEv1 has none,
        and is then `isakmp`. DataPlaneError."""
        c = ffi.new("struct dp_ike_sa_params *", {"initiator": initiator, "nat_port": nat_port, "isakmp": isakmp})
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

    def set_ikev1_peer(self, address: Address, *, there: bool) -> None:
        """A peer that speaks IKEv1 is expected at an address, or no longer. DataPlaneError."""
        c = ffi.new("struct dp_addr *", {"family": address.version})
        set_address(c.ip, address)
        change = lib.dp_ike_peer_add if there else lib.dp_ike_peer_remove
        check(change(self.c, c), f"telling the data plane of the peer at {address}")

    def set_quiet(self, ranges: Iterable[AddressRange]) -> None:
        """No COOKIE answer goes to these addresses, which do not overlap. DataPlaneError."""
        ordered = sorted(ranges, key=lambda one: (one.low.version, int(one.low)))
        array = ffi.new("struct dp_range[]", len(ordered))
        for c, one in zip(array, ordered, strict=True):
            c.family = one.low.version
            set_address(c.low, one.low)
            set_address(c.high, one.high)
        check(lib.dp_ike_quiet_set(self.c, array, len(ordered)), "saying where no COOKIE answer goes")

    # ---- port 500

    def attach_ike(self, local: Endpoint, descriptor: int) -> int:
        """Gives the core the socket of port 500 of one address; its number. DataPlaneError."""
        c = ffi.new("struct dp_addr *")
        set_endpoint(c, local)
        return check(lib.dp_ike_port_add(self.c, descriptor, c), f"attaching port {local.port} of {local.address}")

    def detach_ike(self, number: int) -> None:
        """DataPlaneError (ENOENT)."""
        check(lib.dp_ike_port_remove(self.c, number), "detaching a socket for IKE")

    def start_ike(self) -> None:
        """Starts the thread of port 500, with the priority of the calling one; `stop` ends it."""
        check(lib.dp_ike_port_start(self.c), "starting the thread of port 500")

    def stop_ike(self) -> None:
        """Ends the thread of port 500: what comes there waits for whoever reads it next. `start_ike` begins again."""
        lib.dp_ike_port_stop(self.c)

    def ike_descriptor(self) -> int:
        """Readable while there is something for `read_ike`."""
        return int(lib.dp_ike_port_fd(self.c))

    def read_ike(self) -> Punt | None:
        """The oldest message that came to port 500 and passed; `link` is the number of the socket."""
        return self.read_record(self.ike_descriptor())

    def step_ike(self, now: int) -> int:
        """Reads all sockets of port 500 at `now` (ns), as their thread does; how many datagrams there were."""
        return int(lib.dp_ike_port_step(self.c, now))

    def read_record(self, descriptor: int) -> Punt | None:
        """The oldest record of a channel, or None."""
        try:
            n = os.readv(descriptor, [self._record])
        except BlockingIOError:
            return None
        return punt_of(self._record, n)
