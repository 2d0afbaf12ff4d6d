"""Manual SAs (`[tunnel.manual_unsafe]`): the first user of the SAD; IKE seeds it in the same way.

Unsafe because nothing replaces the keys and nothing keeps sequence numbers over a restart: RFC 4303 §3.3.3 asks manual senders to
go on where they were. The IV, on which the nonce depends, starts at a random place each time (RFC 4106 §3.1: it never repeats under
one key), and a restarted gateway's packets are replays to its peer until that one is restarted too.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ipsec_dp.config import load_manual_keys
from ipsec_dp.dataplane import Direction, Limits, OuterPath, SaParams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipsec_dp.config import ManualSa, Tunnel
    from ipsec_dp.databases.sad import ChildSa, Sad
    from ipsec_dp.ipsec.selectors import SelectorPair

WARNING = "keys are set by hand and never replaced (manual_unsafe): for rigs and benchmarks only"
SOFT_PART = 0.9  # of a hard limit: with no one to rekey, it only warns earlier


def limits_of(tunnel: Tunnel) -> Limits:
    """Hard limits as configured, soft ones a tenth below."""
    octets, packets = tunnel.esp.life_octets, tunnel.esp.life_packets
    return Limits(int(octets * SOFT_PART), octets, int(packets * SOFT_PART), packets)


def install(
    sad: Sad,
    tunnel: Tunnel,
    manual: ManualSa,
    *,
    number: int,
    interface: int,
    selectors: Sequence[SelectorPair],
    path: OuterPath,
) -> ChildSa:
    """Reads the key files and brings the tunnel's one CHILD_SA up. Raises BadValueError (a key file) or DataPlaneError."""
    limits = limits_of(tunnel)
    with load_manual_keys(manual) as keys:
        inbound = SaParams(
            direction=Direction.INBOUND,
            spi=manual.spi_in,
            suite=manual.suite,
            keymat=keys.inbound,
            tunnel=number,
            limits=limits,
            interface=interface,
            selectors=selectors,
            replay_window=tunnel.esp.replay_window,
            peer=path.remote,
        )
        outbound = SaParams(
            direction=Direction.OUTBOUND,
            spi=manual.spi_out,
            suite=manual.suite,
            keymat=keys.outbound,
            tunnel=number,
            limits=limits,
            path=path,
            iv=secrets.randbits(64),
        )
        child = sad.add_child(number, selectors, sad.install(inbound))
        sender = sad.install(outbound)
    sad.switch(child, sender)
    return child
