"""Rules of the kernel's routing for packets that policy lets pass in clear (RFC 4301 §4.4.1, BYPASS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipsec_dp.ipsec.addresses import Network
    from ipsec_dp.ipsec.selectors import Range


@dataclass(frozen=True, slots=True)
class KernelMatch:
    """One rule: packets of this kind go past the tunnels (`past`) or on to the tunnels' routes. None: any; ports 1..65534."""

    source: Network
    destination: Network
    protocol: int | None
    source_ports: Range | None
    destination_ports: Range | None
    past: bool
