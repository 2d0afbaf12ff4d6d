"""NAT detection, and what follows from it (RFC 7296 §2.23)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cryptography.hazmat.primitives.constant_time import bytes_eq

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.ike.actions import Endpoint, Path
    from ipsec_dp.ike.peer import Encapsulation

NatSides = Literal["none", "local", "remote", "both"]


@dataclass(frozen=True, slots=True)
class Nat:
    """What was found: a NAT before us (`local`), one before the peer (`remote`). `supported`: the peer detects NATs, too."""

    supported: bool = False
    local: bool = False
    remote: bool = False

    @property
    def sides(self) -> NatSides:
        """Where a NAT is, in a word."""
        if self.local:
            return "both" if self.remote else "local"
        return "remote" if self.remote else "none"

    def uses_udp(self, encapsulation: Encapsulation) -> bool:
        """True when ESP goes in UDP: a NAT is there, or either side forces it."""
        if encapsulation == "esp":
            return False
        return self.supported and (self.local or self.remote or encapsulation == "udp")


def detection_hash(spi_i: bytes, spi_r: bytes, end: Endpoint, algorithm: str = "sha1") -> bytes:
    """SPIs, address and port, hashed: by SHA-1, in IKEv1 by the hash agreed on (RFC 3947 §3.2). It only has to differ when a NAT
    changed something."""
    octets = spi_i + spi_r + end.address.packed + end.port.to_bytes(2, "big")
    return hashlib.new(algorithm, octets, usedforsecurity=False).digest()


def detect(
    spi_i: bytes, spi_r: bytes, path: Path, sources: Sequence[bytes], destination: bytes | None, algorithm: str = "sha1"
) -> Nat:
    """What the hashes that the peer sent say, of its addresses as source and of ours as destination; without both: nothing."""
    if not sources or destination is None:
        return Nat()
    seen, ours = (detection_hash(spi_i, spi_r, end, algorithm) for end in (path.remote, path.local))
    return Nat(
        supported=True,
        local=not bytes_eq(ours, destination),
        remote=not any(bytes_eq(seen, source) for source in sources),
    )
