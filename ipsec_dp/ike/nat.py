"""NAT detection, and what follows from it (RFC 7296 §2.23): whether ESP goes in UDP.

Both sides tell each other from where and to where a message goes, hashed. Where that does not hold, a NAT is between them, and ESP
goes in UDP. It does so too where one side says what cannot be: its own address with port 0 (`FORCED`). Any peer sees a NAT in that
and takes UDP; one that knows the form, as we do, also sees that the address is as it was said, so that there is none.

A side that says nothing of its address cannot be asked for UDP: both then stay with IP protocol 50 (`NOTHING`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives.constant_time import bytes_eq

from ipsec_dp.ike.actions import IKE_PORT, NATT_PORT
from ipsec_dp.ike.peer import NAT_KEEPALIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipsec_dp.ike.actions import Endpoint, Path
    from ipsec_dp.ike.peer import Encapsulation

NatSides = Literal["none", "local", "remote", "both"]
Why = Literal["configured", "nat", "auto", "peer", "shared"]  # as docs/configuration.md says of `encapsulation_why`

NO_PORT: Final = 0  # from which nothing can come


class Said(Enum):
    """What we say of our own address."""

    TRUTH = "truth"
    FORCED = "forced"
    NOTHING = "nothing"


def said_of(encapsulations: Iterable[Encapsulation]) -> Said:
    """By what is configured for those that the peer may be. Where some are to have ESP in UDP and others are not, that is left to
    whether a NAT is there."""
    each = set(encapsulations)
    if "esp" in each:
        return Said.NOTHING if len(each) == 1 else Said.TRUTH
    return Said.FORCED


@dataclass(frozen=True, slots=True)
class Nat:
    """What was found: a NAT before us (`local`), one before the peer (`remote`); and who forced ESP into UDP, as far as it can be
    told from a NAT. `supported`: both sides detect NATs."""

    supported: bool = False
    local: bool = False
    remote: bool = False
    forced_here: bool = False
    forced_there: bool = False

    @property
    def there(self) -> bool:
        """True when there is one."""
        return self.local or self.remote

    @property
    def sides(self) -> NatSides:
        """Where a NAT is, in a word."""
        if self.local:
            return "both" if self.remote else "local"
        return "remote" if self.remote else "none"

    @property
    def udp(self) -> bool:
        """True when ESP goes in UDP: a NAT is there, or either side forces it."""
        return self.supported and (self.there or self.forced_here or self.forced_there)

    def spares_udp(self, encapsulation: Encapsulation) -> bool:
        """True when ESP goes in UDP because that is faster, where this is configured, and could go without."""
        return encapsulation == "auto" and self.udp and not self.there

    def why(self, encapsulation: Encapsulation) -> Why:
        """Of `udp`, where this is configured."""
        if encapsulation == ("udp" if self.udp else "esp"):
            return "configured"
        if not self.udp:
            return "shared" if self.supported else "peer"
        if self.there:
            return "nat"
        return "auto" if self.forced_here else "peer"

    def needs_keepalives(self, checks_s: float, *, called: bool) -> bool:
        """Whether what stands on the way would forget us: a NAT before us. Without one a firewall may, which lets in what answers
        to what we sent; then whoever `called` sees to it, unless the peer is asked whether it is alive (after `checks_s` of
        silence, 0: never) as often anyway."""
        return self.local or (self.udp and not self.there and called and not 0 < checks_s <= NAT_KEEPALIVE)


def source_end(local: Endpoint, said: Said) -> Endpoint:
    """From where we say that a message comes."""
    return local._replace(port=NO_PORT) if said is Said.FORCED else local


def detection_hash(spi_i: bytes, spi_r: bytes, end: Endpoint, algorithm: str = "sha1") -> bytes:
    """SPIs, address and port, hashed: by SHA-1, in IKEv1 by the hash agreed on (RFC 3947 §3.2). It only has to differ when a NAT
    changed something."""
    octets = spi_i + spi_r + end.address.packed + end.port.to_bytes(2, "big")
    return hashlib.new(algorithm, octets, usedforsecurity=False).digest()


def detect(
    spi_i: bytes,
    spi_r: bytes,
    path: Path,
    sources: Sequence[bytes],
    destination: bytes | None,
    algorithm: str = "sha1",
    *,
    said: Said = Said.TRUTH,
) -> Nat:
    """What the hashes that the peer sent say, of its addresses as source and of ours as destination; without both: nothing.
    `said`: what it hears of us."""
    if not sources or destination is None:
        return Nat()

    def holds(end: Endpoint, *given: bytes) -> bool:
        return any(bytes_eq(detection_hash(spi_i, spi_r, end, algorithm), one) for one in given)

    theirs, ours = holds(path.remote, *sources), holds(path.local, destination)
    # Some force it by both ends, some by their own.
    forced_source = (
        not theirs and holds(source_end(path.remote, Said.FORCED), *sources) and path.remote.port in (IKE_PORT, NATT_PORT)
    )
    forced_destination = not ours and holds(source_end(path.local, Said.FORCED), destination)
    return Nat(
        supported=said is not Said.NOTHING,
        local=not (ours or forced_destination),
        remote=not (theirs or forced_source),
        forced_here=said is Said.FORCED,
        forced_there=forced_source or forced_destination,
    )
