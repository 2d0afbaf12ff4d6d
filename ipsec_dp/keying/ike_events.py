"""What becomes of an event of the IKE core: a line of the log, and what the tunnel makes of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.authenticated import Lines
from ipsec_dp.keying.fallbacks import Fallbacks
from ipsec_dp.keying.levels import fields, level
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.actions import Event
    from ipsec_dp.ike.interface import IkeCore
    from ipsec_dp.keying.calls import Calls
    from ipsec_dp.keying.tunnel_peers import TunnelPeers
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

ANSWERED = frozenset({act.Kind.IKE_UP, act.Kind.IKE_FAILED})
ENDS = frozenset({act.Kind.IKE_DOWN, act.Kind.IKE_FAILED})
UNPROVEN = frozenset({act.Origin.CLAIMED, act.Origin.STRANGER})


class IkeEvents:
    """Of all tunnels. `reported`: as `IkeDriver`; `no_udp` hears of an attempt that goes no further on port 4500.
    `restart`: as of `IkeDriver`."""

    def __init__(
        self,
        core: IkeCore,
        peers: TunnelPeers,
        calls: Calls,
        conditions: Conditions,
        clock: Clock,
        *,
        reported: Callable[[Event], None],
        no_udp: Callable[[Event], None],
        restart: Callable[[str], None],
    ) -> None:
        self._core, self._peers, self._calls, self._clock = core, peers, calls, clock
        self._reported, self._no_udp, self._restart = reported, no_udp, restart
        self._lines = Lines()
        self._fallbacks = Fallbacks(conditions)

    def report(self, event: Event) -> None:
        """One that the core has just told."""
        self._reported(event)
        self._log(event)
        intent = self._calls.intents.get(event.tunnel)
        if intent is not None and event.origin is act.Origin.CLAIMED:
            intent.claimed(event)
        if intent is None or event.origin in UNPROVEN:
            return
        now = self._clock.now()
        self._fallbacks.look(event.tunnel, self._core.fallback(event.tunnel, now))
        unwanted = self._peers.encapsulations.event(event)
        intent.event(event, now, others=event.kind in ENDS and self._core.has_ike_sa(event.tunnel))
        if event.kind is act.Kind.NO_UDP:
            self._no_udp(event)
        if unwanted:
            self._restart(event.tunnel)
        if event.kind in ANSWERED:
            self._calls.answered(event.tunnel, now)

    def _log(self, event: Event) -> None:
        """A peer causes most of these lines, as many as it likes; those of strangers are few already."""
        peer = self._peers.get(event.tunnel)
        missed = 0 if peer is None else self._lines.left_out(event.tunnel, len(peer.proxy_ids), self._clock.now())
        if missed:
            log.warning(
                'tunnel "%s": %d lines about its IKE SAs were left out',
                event.tunnel,
                missed,
                extra=told("ike_left_out", tunnel=event.tunnel, count=missed),
            )
        if missed is not None:
            log.log(level(event), "%s", event, extra=fields(event))

    def unmade(self, tunnel: str, why: str) -> None:
        """A CHILD_SA of it was agreed on, and this host cannot have it."""
        self._calls.intents[tunnel].cannot_carry(why)

    def forget(self, tunnel: str) -> None:
        """It is gone, with what is said about it."""
        self._lines.forget(tunnel)
        self._fallbacks.look(tunnel, None)
