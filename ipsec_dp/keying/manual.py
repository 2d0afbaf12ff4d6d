"""Manual SAs (`[tunnel.manual_unsafe]`): the first user of the SAD; IKE seeds it in the same way.

Unsafe because nothing replaces the keys and nothing keeps sequence numbers over a restart: RFC 4303 §3.3.3 asks manual senders to
go on where they were. The IV, on which the nonce depends, starts at a random place each time (RFC 4106 §3.1: it never repeats under
one key), and a restarted gateway's packets are replays to its peer until that one is restarted too.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from ipsec_dp.config import load_manual_keys
from ipsec_dp.config.file_keys import SECRETS
from ipsec_dp.dataplane import Direction, Encapsulation, Limits, OuterPath, SaParams
from ipsec_dp.keying.status import KeyingStatus
from ipsec_dp.util.opening import Ahead
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ipsec_dp.config import ManualSa, Tunnel
    from ipsec_dp.databases.sad import Sad
    from ipsec_dp.databases.sad_records import ChildSa
    from ipsec_dp.databases.spd import Spd
    from ipsec_dp.ipsec.selectors import SelectorPair

log = logging.getLogger(__name__)

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
    random: Callable[[int], bytes],
    ahead: Ahead | None = None,
) -> ChildSa:
    """Reads the key files and brings the tunnel's one CHILD_SA up. `random` gives octets for the IV; `ahead` as of `read_secret`.

    Raises BadValueError (a key file) or DataPlaneError.
    """
    limits = limits_of(tunnel)
    with load_manual_keys(manual, ahead) as keys:
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
            iv=int.from_bytes(random(8)),
        )
        child = sad.add_child(number, selectors, sad.install(inbound))
        sender = sad.install(outbound)
    sad.switch(child, sender)
    return child


class ManualSas:
    """The tunnels of a gateway that have manual SAs. `random` gives octets for IVs; `paths`: where their packets go, by tunnel."""

    def __init__(self, sad: Sad, spd: Spd, random: Callable[[int], bytes]) -> None:
        self._sad, self._spd, self._random = sad, spd, random
        self.paths: dict[str, OuterPath] = {}

    def install(self, tunnels: Iterable[Tunnel], paths: Mapping[str, OuterPath]) -> None:
        """Brings up those of `tunnels` that have manual keys, by these paths. Raises as `install` of one does."""
        self.paths.update(paths)
        by_hand = [(tunnel, tunnel.manual) for tunnel in tunnels if tunnel.manual is not None]
        with Ahead(os.path.abspath(file) for tunnel, _ in by_hand for file in SECRETS.of(tunnel)) as ahead:
            for tunnel, manual in by_hand:
                install(
                    self._sad,
                    tunnel,
                    manual,
                    number=self._spd.tunnel_numbers[tunnel.name],
                    interface=self._spd.interface_numbers[tunnel.interface],
                    selectors=tunnel.selectors,
                    path=self.paths[tunnel.name],
                    random=self._random,
                    ahead=ahead,
                )
                self.warn((tunnel,))

    @staticmethod
    def warn(tunnels: Iterable[Tunnel]) -> None:
        """Of those that have manual keys, wherever their SAs come from."""
        for tunnel in tunnels:
            if tunnel.manual is not None:
                log.warning('tunnel "%s": %s', tunnel.name, WARNING, extra=told("manual_keys", tunnel=tunnel.name))

    def remove(self, tunnel: Tunnel) -> None:
        """Ends a tunnel's SAs."""
        self.paths.pop(tunnel.name, None)
        for child in self._sad.children_of(self._spd.tunnel_numbers[tunnel.name]):
            self._sad.remove_child(child)

    def is_up(self, name: str) -> bool:
        """Whether it can receive and send."""
        children = self._sad.children_of(self._spd.tunnel_numbers[name])
        return any(child.inbound is not None and child.outbound is not None for child in children)

    def status(self, name: str) -> KeyingStatus:
        """As `is_up` says."""
        up = self.is_up(name)
        return KeyingStatus(
            state="up" if up else "down",
            state_text="manual keys" if up else "no SA",
            remote=str(self.paths[name].remote.address),
            encapsulation="udp" if self.paths[name].encapsulation is Encapsulation.UDP else "esp",
            encapsulation_why="configured" if self.paths[name].encapsulation is Encapsulation.UDP else None,
        )
