"""When a tunnel is called anew for its ESP to go in another way: judged by its IKE SAs, and noted in `Encapsulations`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.keying.encapsulations import Between
from ipsec_dp.keying.tunnel_state import UP

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.actions import Event
    from ipsec_dp.ike.interface import IkeCore
    from ipsec_dp.keying.calls import Calls
    from ipsec_dp.keying.tunnel_peers import TunnelPeers
    from ipsec_dp.util.clock import Clock


class EncapsulationFallback:
    """Of all tunnels. `leave`, `restart`: as of `IkeDriver`."""

    def __init__(
        self,
        core: IkeCore,
        peers: TunnelPeers,
        calls: Calls,
        clock: Clock,
        *,
        leave: Callable[[str], None],
        restart: Callable[[str], None],
    ) -> None:
        self._core, self._peers, self._calls, self._clock = core, peers, calls, clock
        self._leave, self._restart = leave, restart

    def nothing_back(self, name: str) -> bool:
        """Nothing came over the SAs that a tunnel has, though IKE passes and questions were sent. True: another way is tried."""
        can_call, found = self._calls.intents[name].can_call, self._peers.encapsulations
        up = [sa for sa in self._core.latest(name, self._clock.now()) if sa.state in UP] if can_call else []
        if not up or up[-1].role != "initiator" or self._peers[name].encapsulation != "auto":
            return False  # whoever called looks for another way
        if up[-1].encapsulation_why != "auto" if up[-1].udp else not found.fell_back(name):
            return False
        between = Between(up[-1].path.local.address, up[-1].path.remote.address)
        if not found.nothing_back(name, between):
            return False
        self._restart(name)
        return True

    def no_udp(self, event: Event) -> None:
        """It is called without, at once; unless an IKE SA of it is up, which carries what there is."""
        sas = self._core.latest(event.tunnel, self._clock.now())
        if any(sa.state in UP for sa in sas):
            return
        path = next((sa.path for sa in sas if (sa.spi_i, sa.spi_r) == (event.spi_i, event.spi_r)), None)
        if path is not None:
            self._leave(event.tunnel)
            between = Between(path.local.address, path.remote.address)
            self._peers.encapsulations.no_way(event.tunnel, between, event.text)
            self._restart(event.tunnel)
