"""Which tunnels are called, when, and at which address: what their `Intent`s plan, as many attempts at once as the limits allow."""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Any

from ipsec_dp.host import HostError
from ipsec_dp.host.sockets import IKE_PORT, NAT_PORT
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.timer_queue import TimerQueue
from ipsec_dp.keying.encapsulations import Between
from ipsec_dp.keying.initiation import Intent
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

    from ipsec_dp.config import Tunnel
    from ipsec_dp.ike.actions import Action
    from ipsec_dp.ike.interface import IkeCore
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair
    from ipsec_dp.keying.initiation import IntentState
    from ipsec_dp.keying.tunnel_peers import TunnelPeers
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

TICK_S = 0.25  # how late an attempt may be
# Attempts that wait for an answer at the same time. A thousand requests at once would meet a full receive buffer, and the cookies
# and the limit on half-open IKE SAs of the peer, and be repeated. One that has no answer after CALL_FRESH_S does not count.
CALLS_AT_ONCE = 24
CALL_FRESH_S = 1.0
ADDRESSES_KEPT = 64  # of one peer, between two answers to all of its names


class Calls:
    """Of all tunnels. `locate`, `uncalled`: as `IkeDriver`. `listen` opens the ports of an address, or raises HostError;
    `carry_out` takes what the core says; `begin` has something done beside the rest."""

    def __init__(
        self,
        tunnels: Iterable[Tunnel],
        peers: TunnelPeers,
        core: IkeCore,
        conditions: Conditions,
        clock: Clock,
        *,
        locate: Callable[[Tunnel, Address | str, int], Awaitable[tuple[Address, Address]]],
        listen: Callable[[Address], None],
        carry_out: Callable[[Iterable[Action]], None],
        begin: Callable[[Coroutine[Any, Any, None]], object],
        uncalled: Callable[[str], None],
    ) -> None:
        self._peers, self._core, self._clock = peers, core, clock
        self._locate, self._listen, self._carry_out, self._begin, self._uncalled = locate, listen, carry_out, begin, uncalled
        self._ticks = Rounds("calling peers", conditions, clock)
        self._planned: TimerQueue[str] = TimerQueue()  # tunnels that are to be called
        self.tunnels = {tunnel.name: tunnel for tunnel in tunnels}
        self.intents = {name: self._intent(tunnel) for name, tunnel in self.tunnels.items()}
        self._packets: dict[str, SelectorPair] = {}  # what asked for a tunnel that is about to be called
        self._resumed: set[str] = set()  # what is wanted of them came from another process
        self._fresh: dict[str, float] = {}  # when the attempts that have no answer yet began
        self._held_back = False  # attempts are due that CALLS_AT_ONCE does not let begin

    def _chance(self) -> float:
        """From 0 up to 1."""
        return int.from_bytes(self._clock.random(4)) / 2**32

    def _intent(self, tunnel: Tunnel) -> Intent:
        return Intent(tunnel, self._chance, lambda at: self._planned.set(tunnel.name, inf if at is None else at))

    async def run(self) -> None:
        """Calls what is due, until it is cancelled."""
        await self._ticks.run(self._tick)

    # ---- which tunnels there are

    def take_over(self, tunnel: Tunnel, effect: Effect) -> None:
        """One that is new or changed; `effect`: what becomes of its IKE SAs."""
        name, now = tunnel.name, self._clock.now()
        is_new = name not in self.tunnels
        self.tunnels[name] = tunnel
        if is_new or effect is Effect.RESTART:
            self._planned.discard(name)
            former, self.intents[name] = self.intents.get(name), self._intent(tunnel)
            if former is not None:
                self.intents[name].tally = former.tally
            self.intents[name].start(now)
        else:
            self.intents[name].reconfigure(tunnel, now)
            if effect in (Effect.RECHECK, Effect.REAUTH):  # who could not prove himself may do so now
                self.intents[name].reachable(now)

    def forget(self, name: str) -> None:
        """The tunnel is gone."""
        self._planned.discard(name)
        for kept in (self.tunnels, self.intents, self._packets, self._fresh):
            kept.pop(name, None)

    def export(self) -> dict[str, IntentState]:
        """What is wanted of each."""
        return {name: intent.export() for name, intent in self.intents.items()}

    def resume(self, intents: Mapping[str, IntentState]) -> None:
        """Of tunnels whose IKE SAs have come, or that have none. `begin_anew` is to follow the last."""
        now = self._clock.now()
        for name, intent in intents.items():
            if name in self.intents:
                self.intents[name].resume(intent, now, has_ike_sa=self._core.has_ike_sa(name))
                self._resumed.add(name)

    def begin_anew(self) -> None:
        """Tunnels of which nothing came along are called as at a start."""
        resumed, self._resumed = self._resumed, set()
        for name, intent in self.intents.items():
            if name not in resumed:
                intent.start(self._clock.now())

    def came_up(self) -> int:
        """How many of the tunnels that are called at the start have been up."""
        return sum(tunnel.start == "start" and self.intents[name].up_at > -inf for name, tunnel in self.tunnels.items())

    # ---- what has one called

    def ask(self, name: str) -> None:
        """It is called now."""
        now = self._clock.now()
        self.intents[name].asked(now)
        self._call_due(now)

    def wake(self, name: str) -> None:
        """What failed for want of a way to the peer is tried now."""
        now = self._clock.now()
        self.intents[name].reachable(now)
        self._call_due(now)

    def want(self, name: str, selectors: SelectorPair) -> bool:
        """A packet found no SA. False when nothing will come of it."""
        now = self._clock.now()
        self._packets[name] = selectors
        self.intents[name].traffic(now)
        self._call_due(now)
        return self.intents[name].pending

    def answered(self, name: str, now: float) -> None:
        """The attempt of a tunnel is over; another one may begin."""
        if self._fresh.pop(name, None) is not None and self._held_back:
            self._call_due(now)

    # ---- calling

    async def _tick(self) -> None:
        self._call_due(self._clock.now())
        await self._clock.pause(TICK_S, self._next_call)

    def _next_call(self) -> float:
        due = self._planned.next()
        return inf if due is None else due

    def _call_due(self, now: float) -> None:
        """Begins the attempts that are due, as many as may be under way."""
        self._fresh = {name: began for name, began in self._fresh.items() if now - began < CALL_FRESH_S}
        self._held_back = False
        while (due := self._planned.next()) is not None and due <= now:
            if len(self._fresh) >= CALLS_AT_ONCE:
                self._held_back = True
                return
            name = self._planned.pop(now)
            if name is not None:
                self._attempt(name, now)

    def _attempt(self, name: str, now: float) -> None:
        try:
            remote = self.intents[name].attempt(now)
        except Exception:
            self._planned.set(name, now + TICK_S)  # or nobody would ever call it again
            raise
        if remote is not None:
            self._fresh[name] = now
            self._begin(self._call(name, *remote))

    async def _call(self, name: str, index: int, turn: int) -> None:
        tunnel, peer = self.tunnels[name], self._peers[name]
        try:
            remote, local = await self._locate(tunnel, tunnel.remotes[index], turn)
            self._listen(local)
        except HostError as error:
            log.warning('tunnel "%s": %s', name, error, extra=told("call_failed", tunnel=name))
            if self.tunnels.get(name) is tunnel:
                now = self._clock.now()
                self.intents[name].failed(str(error), now, others=self._core.has_ike_sa(name))
                self._uncalled(name)
            self._fresh.pop(name, None)
            return
        if self.tunnels.get(name) is not tunnel:  # configured otherwise meanwhile: the next attempt knows
            self._fresh.pop(name, None)
            if name in self.intents:
                self.intents[name].asked(self._clock.now())
            return
        if remote not in peer.remotes:  # a name that means another address now
            self._peers.located(name, (remote, *peer.remotes)[:ADDRESSES_KEPT])
        self._peers.encapsulations.calls(name, Between(local, remote))
        natt = self._peers[name].natt_first
        port = NAT_PORT if natt else IKE_PORT
        path = act.Path(act.Endpoint(local, port), act.Endpoint(remote, port), natt)
        self._carry_out(self._core.initiate(name, path, self._clock.now(), self._packets.pop(name, None)))
