"""When a tunnel is called anew for its ESP to go in another way: judged by its IKE SAs, and noted in `Encapsulations`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.keying.encapsulations import Between
from ipsec_dp.keying.tunnel_state import UP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.ike.actions import Action, Event
    from ipsec_dp.ike.interface import IkeCore
    from ipsec_dp.keying.calls import Calls
    from ipsec_dp.keying.tunnel_peers import TunnelPeers
    from ipsec_dp.util.clock import Clock


class EncapsulationFallback:
    """Of all tunnels. `leave`, `restart`: as of `IkeDriver`; `carry_out` takes what the core says."""

    def __init__(
        self,
        core: IkeCore,
        peers: TunnelPeers,
        calls: Calls,
        clock: Clock,
        *,
        leave: Callable[[str], None],
        restart: Callable[[str], None],
        carry_out: Callable[[Iterable[Action]], None],
    ) -> None:
        self._core, self._peers, self._calls, self._clock = core, peers, calls, clock
        self._leave, self._restart, self._carry_out = leave, restart, carry_out
        peers.encapsulations.tried_anew = self.tried_anew

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
        """It is called without, at once; unless an IKE SA of it is up, which carries what there is. Where that goes without UDP it
        stays so, and so does what replaces it."""
        sas = self._core.latest(event.tunnel, self._clock.now())
        up = [sa for sa in sas if sa.state in UP]
        concerned = up or [sa for sa in sas if (sa.spi_i, sa.spi_r) == (event.spi_i, event.spi_r)]
        if not concerned or any(sa.udp for sa in up):
            return
        if not up:
            self._leave(event.tunnel)
        path = concerned[-1].path
        between = Between(path.local.address, path.remote.address)
        self._peers.encapsulations.no_way(event.tunnel, between, event.text, up=bool(up))
        if not up:
            self._restart(event.tunnel)

    def tried_anew(self, name: str) -> None:
        """Another IKE SA, with UDP, is to take the place of one that is up without: make-before-break, so that nothing is lost
        where UDP still does not get through."""
        now = self._clock.now()
        up = [sa for sa in self._core.latest(name, now) if sa.state in UP]
        if up and not up[-1].udp and self._calls.intents[name].can_call:  # whoever has rekeyed it is its initiator
            self._carry_out(self._core.reauthenticate(name, now))
