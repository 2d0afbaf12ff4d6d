"""What carries out the IKE core's actions: sockets, clock, names, the SAD. It parses and builds no IKE, and decides about no SA.

Everything the core returns is carried out in order and at once. What the operator wants of a tunnel (when to call, whom, how often)
is asked of its `Intent`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ipsec_dp.errors import DataPlaneError, IpsecDpError
from ipsec_dp.host import HostError
from ipsec_dp.host.sockets import IKE_PORT, NAT_PORT
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.authenticated import Lines
from ipsec_dp.ike.carried.carry import IkeSource, import_ike
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.environment import NO_TRACE
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.timer_queue import TimerQueue
from ipsec_dp.ipsec.packet import selectors_of_packet
from ipsec_dp.keying.child_installer import outer_endpoint
from ipsec_dp.keying.encapsulations import Between, Encapsulations
from ipsec_dp.keying.fallbacks import Fallbacks
from ipsec_dp.keying.inbox import Inbox
from ipsec_dp.keying.initiation import Intent
from ipsec_dp.keying.levels import fields, level
from ipsec_dp.keying.status import IkeSaStatus, KeyingStatus, PostQuantumStatus
from ipsec_dp.keying.tunnel_state import UP, tunnel_state
from ipsec_dp.keying.unmade import Unmade
from ipsec_dp.util.loops import Rounds
from ipsec_dp.util.slices import Slice, in_slices
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
    from contextlib import AsyncExitStack

    from ipsec_dp import dataplane
    from ipsec_dp.config import Tunnel
    from ipsec_dp.databases.sad import IkeDatagram
    from ipsec_dp.dataplane import OuterPath, SaHandle
    from ipsec_dp.host.unreachable import Unreachable
    from ipsec_dp.ike.actions import Action, Event
    from ipsec_dp.ike.carried.carry import CarriedCore
    from ipsec_dp.ike.carried.keys import KeysOf
    from ipsec_dp.ike.carried.model import LeftOut
    from ipsec_dp.ike.environment import Trace
    from ipsec_dp.ike.interface import IkeCore, IkeStatus
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair
    from ipsec_dp.keying.child_installer import IkeChildren
    from ipsec_dp.keying.encapsulations import FindingState
    from ipsec_dp.keying.ike_trials import IkeTrials
    from ipsec_dp.keying.initiation import IntentState
    from ipsec_dp.keying.status import RenewalTrigger
    from ipsec_dp.keying.trial_attempt import Attempt
    from ipsec_dp.network.host import OuterLinks
    from ipsec_dp.util.clock import Clock, Timer
    from ipsec_dp.util.conditions import Conditions

log = logging.getLogger(__name__)

TICK_S = 0.25  # how late an attempt may be
# Attempts that wait for an answer at the same time. A thousand requests at once would meet a full receive buffer, and the cookies
# and the limit on half-open IKE SAs of the peer, and be repeated. One that has no answer after CALL_FRESH_S does not count.
CALLS_AT_ONCE = 24
CALL_FRESH_S = 1.0
ADDRESSES_KEPT = 64  # of one peer, between two answers to all of its names

ANSWERED = frozenset({act.Kind.IKE_UP, act.Kind.IKE_FAILED})
ENDS = frozenset({act.Kind.IKE_DOWN, act.Kind.IKE_FAILED})
UNPROVEN = frozenset({act.Origin.CLAIMED, act.Origin.STRANGER})


class LeavingIke(NamedTuple):
    """`pieces`: so many (`number`), each with what is wanted of its tunnels, and `others` of those that are in none."""

    number: int
    others: dict[str, IntentState]
    pieces: Iterator[tuple[bytearray, dict[str, IntentState]]]


class IkeDriver:
    """All tunnels of a gateway that have [tunnel.auth].

    `locate` finds address and local address for a remote (an address or a name, which may mean several addresses: another one in
    each turn), or raises HostError. `changed` is called each time CHILD_SAs were installed or removed, `probed` with the outcome of
    a probe of the path's MTU. `refuses`: whether an address is one that nothing may be sent to. `reported` hears of each event,
    `renewing` of what has a tunnel's keys renewed before they are due, `uncalled` of a tunnel that could not be called. `no_esp`:
    why the host permits no IP protocol 50.
    """

    def __init__(
        self,
        tunnels: Iterable[Tunnel],
        peers: Mapping[str, Peer],
        *,
        core: IkeCore,
        children: IkeChildren,
        links: OuterLinks,
        locate: Callable[[Tunnel, Address | str, int], Awaitable[tuple[Address, Address]]],
        changed: Callable[[str], None],
        clock: Clock,
        conditions: Conditions,
        probed: Callable[[act.ProbeResult], None] = lambda _: None,
        refuses: Callable[[Address], bool] = lambda _: False,
        trace: Trace = NO_TRACE,
        reported: Callable[[Event], None] = lambda _: None,
        renewing: Callable[[str, RenewalTrigger], None] = lambda _name, _why: None,
        uncalled: Callable[[str], None] = lambda _: None,
        trials: IkeTrials | None = None,
        no_esp: str | None = None,
    ) -> None:
        self._tunnels = {tunnel.name: tunnel for tunnel in tunnels}
        self._peers = dict(peers)
        self._core, self._children, self._links, self._locate, self._changed = core, children, links, locate, changed
        self._probed, self._refuses, self._clock, self._trace = probed, refuses, clock, trace
        self._reported, self._renewing, self._uncalled, self._trials = reported, renewing, uncalled, trials
        self._ticks = Rounds("calling peers", conditions, clock)
        self._planned: TimerQueue[str] = TimerQueue()  # tunnels that are to be called
        self._intents = {name: self._intent(tunnel) for name, tunnel in self._tunnels.items()}
        self._packets: dict[str, SelectorPair] = {}  # what asked for a tunnel that is about to be called
        self._calls: set[asyncio.Task[None]] = set()
        self._resumed: set[str] = set()  # what is wanted of them came from another process
        self._fresh: dict[str, float] = {}  # when the attempts that have no answer yet began
        self._held_back = False  # attempts are due that CALLS_AT_ONCE does not let begin
        self._ticking: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._inbox = Inbox(self._handle)
        self._fault_told = -LIMITS.event_seconds
        self._lines = Lines()
        self._fallbacks = Fallbacks(conditions)
        self._encapsulations = Encapsulations(self._apply, conditions, clock, no_esp)
        self._encapsulations.look(self._tunnels.values())
        core.set_peers(map(self._encapsulations.applied, self._peers.values()))

    def _chance(self) -> float:
        """From 0 up to 1."""
        return int.from_bytes(self._clock.random(4)) / 2**32

    def _intent(self, tunnel: Tunnel) -> Intent:
        return Intent(tunnel, self._chance, lambda at: self._planned.set(tunnel.name, inf if at is None else at))

    # ---- life

    def start(self, stack: AsyncExitStack, listen_at: Iterable[Address]) -> None:
        """Listens, and calls the tunnels that want it, until the stack is left."""
        for local in listen_at:
            self.listen(local)
        self.begin_anew()
        self.go_on(stack)

    # ---- from another process, and to one

    def finish(self) -> None:
        """What was begun with many tunnels at once is over on return: `export` takes nothing that is half done."""
        while self._core.unfinished():
            self._due()

    def export(self, core: CarriedCore, keys: KeysOf) -> LeavingIke:
        """All IKE SAs, which are retired as they are given, and what is wanted of tunnels. `core` is the one that it was made with.
        `stop` is to follow. Raises CarriedStateError."""
        source = IkeSource(core, self._clock.now(), keys)
        pieces = source.pieces()
        wanted = {name: intent.export() for name, intent in self._intents.items()}
        intents = [{name: wanted.pop(name) for name in piece.tunnels if name in wanted} for piece in pieces]
        each = ((one.octets, of_these) for one, of_these in zip(source.each(pieces), intents, strict=True))
        return LeavingIke(len(pieces), wanted, each)

    def stop(self) -> None:
        """Nothing is begun, sent or answered from now on; no peer is told."""
        if self._ticking is not None:
            self._ticking.cancel()
        for task in self._calls:
            task.cancel()
        self._inbox.close()
        if self._timer is not None:
            self._timer.cancel()

    def take(
        self, core: CarriedCore, octets: bytearray, intents: Mapping[str, IntentState], claim: Callable[[int], None]
    ) -> tuple[LeftOut, ...]:
        """Goes on with a piece of what was exported elsewhere; what of it is to be negotiated anew. `claim` is told of SPIs that
        were announced to peers. The octets are wiped. `begin_anew` is to follow the last. Raises CarriedStateError, and nothing
        has changed."""
        now = self._clock.now()
        imported = import_ike(core, octets, now)
        for _, spi in imported.reserved:
            claim(spi)
        self.take_intents(intents)
        self._carry_out(imported.actions)  # behind the intents, which know afterwards what could not be carried
        return imported.left_out

    def take_intents(self, intents: Mapping[str, IntentState]) -> None:
        """Of tunnels whose IKE SAs have come, or that have none."""
        now = self._clock.now()
        for name, intent in intents.items():
            if name in self._intents:
                self._intents[name].resume(intent, now, has_ike_sa=self._core.has_ike_sa(name))
                self._resumed.add(name)

    def begin_anew(self) -> None:
        """Tunnels of which nothing came along are called as at a start."""
        resumed, self._resumed = self._resumed, set()
        for name, intent in self._intents.items():
            if name not in resumed:
                intent.start(self._clock.now())

    def go_on(self, stack: AsyncExitStack) -> None:
        """`start`, after `take`."""
        self._ticking = ticking = asyncio.get_running_loop().create_task(self._ticks.run(self._tick))
        stack.push_async_callback(self._end, ticking)

    def export_findings(self) -> dict[str, FindingState]:
        """Which tunnels' ESP goes as it does because of what was found on the way, for a process that goes on with them."""
        return self._encapsulations.export()

    def take_findings(self, findings: Mapping[str, FindingState]) -> None:
        """Before the IKE SAs come, which are to meet their peers so. Of tunnels that are not here, or that have it written how
        their ESP goes, nothing is taken. Raises ValueError for what was never exported."""
        for name, state in findings.items():
            if name in self._peers and self._peers[name].encapsulation == "auto":
                self._encapsulations.resume(name, state)

    async def reconfigure(self, tunnels: Iterable[Tunnel], peers: Mapping[str, Peer], effects: Mapping[str, Effect]) -> None:
        """Takes tunnels over that are new or changed, with their peers. `effects`: what becomes of those that were there
        already, by name; also of those that are gone, which go first. Each is changed as a whole, very many in slices."""
        self._encapsulations.forget_all()
        new = {tunnel.name: tunnel for tunnel in tunnels}
        async for name in in_slices((*(name for name in effects if name not in new), *new)):
            if name in new:
                self._take_over(new[name], peers[name], effects.get(name, Effect.RESTART))
            else:
                self._planned.discard(name)
                for kept in (self._tunnels, self._peers, self._intents, self._packets, self._fresh):
                    kept.pop(name, None)
                self._lines.forget(name)
                self._fallbacks.look(name, None)
            changed = {name: effects[name]} if name in effects else {}
            peer = [self._encapsulations.applied(self._peers[name])] if name in new else []
            self._carry_out(self._core.reconfigure(peer, changed, self._clock.now()))
        self._encapsulations.look(self._tunnels.values())

    def _take_over(self, tunnel: Tunnel, peer: Peer, effect: Effect) -> None:
        name, now = tunnel.name, self._clock.now()
        before = self._tunnels.get(name)
        if before is not None and before.remotes == tunnel.remotes:  # names keep the addresses they had
            peer = replace(peer, remotes=self._peers[name].remotes)
        self._tunnels[name], self._peers[name] = tunnel, peer
        if before is None or effect is Effect.RESTART:
            self._planned.discard(name)
            former, self._intents[name] = self._intents.get(name), self._intent(tunnel)
            if former is not None:
                self._intents[name].tally = former.tally
            self._intents[name].start(now)
        else:
            self._intents[name].reconfigure(tunnel, now)
            if effect in (Effect.RECHECK, Effect.REAUTH):  # who could not prove himself may do so now
                self._intents[name].reachable(now)

    def came_up(self) -> int:
        """How many of the tunnels that are called at the start have been up."""
        return sum(tunnel.start == "start" and self._intents[name].up_at > -inf for name, tunnel in self._tunnels.items())

    def has(self, name: str) -> bool:
        """Whether there is a tunnel of this name (a reload may be under way)."""
        return name in self._tunnels

    async def judge_again(self, peers: Mapping[str, Peer]) -> None:
        """What proves tunnels' peers has changed (CRLs, by name of the tunnel): IKE SAs end that it no longer holds for, and who
        could not prove himself is called anew."""
        known = {name: peer for name, peer in peers.items() if name in self._peers}
        self._peers |= {name: replace(peer, remotes=self._peers[name].remotes) for name, peer in known.items()}
        async for name in in_slices(tuple(known)):
            now = self._clock.now()
            self._apply(name)
            self._intents[name].reachable(now)
            self._carry_out(self._core.judge_again(name, now))

    def located(self, name: str, addresses: tuple[Address, ...]) -> None:
        """What the remotes of a tunnel mean now, its names among them. IKE SAs stay as they are, and the next call asks anew."""
        peer = self._peers.get(name)
        if peer is not None and peer.remotes != addresses:
            self._peers[name] = replace(peer, remotes=addresses)
            self._apply(name)

    def _apply(self, name: str) -> None:
        """IKE meets the peer of a tunnel as it is to be met from now on."""
        if (peer := self._peers.get(name)) is not None:
            self._core.set_peer(self._encapsulations.applied(peer))

    def peer(self, name: str) -> Peer | None:
        """Of the tunnel of this name, with its secrets."""
        return self._peers.get(name)

    def listen(self, local: Address) -> None:
        """Ports 500 and 4500 of an address, once. Raises HostError."""
        self._links.listen_ike(local, self._received)

    async def _end(self, ticking: asyncio.Task[None]) -> None:
        """Every IKE SA is deleted at the peer too, as far as one message can."""
        for task in (ticking, *self._calls):
            task.cancel()
        self._inbox.close()
        if self._trials is not None:
            self._trials.close()
        await asyncio.gather(ticking, *self._calls, return_exceptions=True)
        self._carry_out(self._core.close(self._clock.now()))
        while self._core.unfinished():
            self._due()
            await asyncio.sleep(0)
        if self._timer is not None:
            self._timer.cancel()

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
            remote = self._intents[name].attempt(now)
        except Exception:
            self._planned.set(name, now + TICK_S)  # or nobody would ever call it again
            raise
        if remote is not None:
            self._fresh[name] = now
            self._begin(self._call(name, *remote))

    async def _call(self, name: str, index: int, turn: int) -> None:
        tunnel, peer = self._tunnels[name], self._peers[name]
        try:
            remote, local = await self._locate(tunnel, tunnel.remotes[index], turn)
            self.listen(local)
        except HostError as error:
            log.warning('tunnel "%s": %s', name, error, extra=told("call_failed", tunnel=name))
            if self._tunnels.get(name) is tunnel:
                now = self._clock.now()
                self._intents[name].failed(str(error), now, others=self._core.has_ike_sa(name))
                self._uncalled(name)
            self._fresh.pop(name, None)
            return
        if self._tunnels.get(name) is not tunnel:  # configured otherwise meanwhile: the next attempt knows
            self._fresh.pop(name, None)
            if name in self._intents:
                self._intents[name].asked(self._clock.now())
            return
        if remote not in peer.remotes:  # a name that means another address now
            self.located(name, (remote, *peer.remotes)[:ADDRESSES_KEPT])
        self._encapsulations.calls(name, Between(local, remote))
        natt = self._peers[name].natt_first
        port = NAT_PORT if natt else IKE_PORT
        path = act.Path(act.Endpoint(local, port), act.Endpoint(remote, port), natt)
        self._carry_out(self._core.initiate(name, path, self._clock.now(), self._packets.pop(name, None)))

    # ---- datagrams and events

    def _received(self, message: bytes, local: dataplane.Endpoint, remote: dataplane.Endpoint) -> None:
        """A message that arrived on port 500."""
        self._receive(message, act.Path(_of_ike(local), _of_ike(remote)))

    def datagram(self, event: IkeDatagram) -> None:
        """A message that arrived on port 4500."""
        if event.local is None or event.remote is None:
            return
        self._receive(event.message, act.Path(_of_ike(event.local), _of_ike(event.remote), natt=True))

    def _receive(self, message: bytes, path: act.Path) -> None:
        if not self._refuses(path.remote.address):
            on_trial = self._trials is not None and self._trials.knows(message)
            self._inbox.put((message, path), ours=on_trial or self._core.knows(message))

    def _handle(self, received: tuple[bytes, act.Path]) -> None:
        """Whatever a stranger sends, it costs one datagram at the most: an exception here is a fault of ours."""
        message, path = received
        now = self._clock.now()
        self._trace.arrived(message, path)
        try:
            if self._trials is not None and self._trials.knows(message):
                self._trials.receive(message, path)
                return
            actions = self._core.receive(message, path, now)
        except Exception:  # whichever it is, the tunnels of everybody else go on
            if now - self._fault_told >= LIMITS.event_seconds:
                self._fault_told = now
                log.exception(
                    "a datagram from %s could not be handled; please report this", path.remote, extra=told("datagram_fault")
                )
            return
        finally:
            self._trace.handled()
        self._carry_out(actions)

    def paths(self) -> dict[str, OuterPath]:
        """The way that each tunnel's packets take now, of those that are up."""
        return self._children.paths()

    def named(self, handle: SaHandle) -> tuple[str, int] | None:
        """Tunnel and number of the CHILD_SA that an SA belongs to."""
        return self._children.named(handle)

    def acquire(self, name: str, packet: bytes) -> bool:
        """A packet found no SA. False when nothing will come of it."""
        selectors = selectors_of_packet(packet)
        now = self._clock.now()
        if selectors is None or name not in self._tunnels:
            return False
        actions = self._core.acquire(name, selectors, now)
        if actions is not None:
            self._carry_out(actions)
            return True
        self._packets[name] = selectors
        self._intents[name].traffic(now)
        self._call_due(now)
        return self._intents[name].pending

    def limit(self, name: str, child: int, *, hard: bool) -> None:
        """A CHILD_SA crossed a limit of octets, packets or sequence numbers."""
        now = self._clock.now()
        self._renewing(name, "volume")
        self._carry_out(self._core.hard_limit(name, child, now) if hard else self._core.soft_limit(name, child, now))

    def probe(self, name: str, octets: int, first_wait: float) -> bool:
        """Probes whether a datagram of so many octets reaches the peer; `probed` is called with the outcome. False: not now."""
        actions = self._core.probe(name, octets, first_wait, self._clock.now()) if name in self._tunnels else None
        if actions is None:
            return False
        self._carry_out(actions)
        return True

    def peer_moved(self, name: str, child: int, remote: act.Endpoint) -> None:
        if not self._refuses(remote.address):
            self._carry_out(self._core.peer_moved(name, child, remote, self._clock.now()))

    def unreachable(self, report: Unreachable) -> None:
        """An ICMP message that quotes one of ours, or says so."""
        local, remote = act.Endpoint(report.local, report.local_port), act.Endpoint(report.remote, report.remote_port)
        path = act.Path(local, remote, report.local_port == NAT_PORT)
        self._carry_out(self._core.unreachable(report.message, path, report.reason, self._clock.now()))
        if self._trials is not None:
            self._trials.unreachable(report.message, path, report.reason)

    def check_liveness(self) -> None:
        """Every peer is asked whether it is there, since nothing is known of the last while."""
        self._begin(self._check_liveness())

    async def _check_liveness(self) -> None:
        async for name in in_slices(tuple(self._tunnels)):
            self._carry_out(self._core.check_liveness(name, self._clock.now()))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    # ---- verbs

    def initiate(self, name: str) -> None:
        """Calls now. Raises IpsecDpError when there is no peer to call."""
        if not self._intents[name].can_call:
            raise IpsecDpError(f'tunnel "{name}" has remote = "any": only the peer can call')
        now = self._clock.now()
        self._intents[name].asked(now)
        self._call_due(now)

    def rekey(self, name: str, *, ike: bool, why: RenewalTrigger = "operator") -> None:
        """New keys for its CHILD_SAs, or for its IKE SA. Raises IpsecDpError when it has none."""
        if not self._core.latest(name, self._clock.now()):
            raise IpsecDpError(f'tunnel "{name}" has no IKE SA; start it with: ipsec-dp initiate {name}')
        self._renewing(name, why)
        self._carry_out(self._core.rekey(name, self._clock.now(), ike=ike))

    def terminate(self, name: str) -> None:
        """Deletes its SAs, here and at the peer."""
        self._carry_out(self._core.terminate(name, self._clock.now()))

    def unpin(self, name: str) -> None:
        """The peer of a tunnel may be met by an older version again. Raises IpsecDpError where it may not."""
        self._core.unpin(name)

    async def attempt(self, name: str) -> tuple[Attempt, ...]:
        """Negotiates a tunnel on trial: nothing is installed, and what the tunnel has stays. Raises IpsecDpError when there is no
        peer to call, or another trial is under way."""
        if self._trials is None or not self._intents[name].can_call:
            raise IpsecDpError(f'tunnel "{name}" has remote = "any": only the peer can call')
        pinned = self._core.pinned(name) is True
        return await self._trials.run(
            self._tunnels[name], self._encapsulations.applied(self._peers[name]), self._locate, self.listen, pinned=pinned
        )

    def leaves(self, name: str, remote: Address, local: Address) -> bool:
        """Whether an IKE SA that we called, or are calling, goes from this address of ours to that remote."""
        sas = self._core.status(name, self._clock.now()) if self._intents[name].can_call else ()
        return any(sa.role == "initiator" and (sa.path.remote.address, sa.path.local.address) == (remote, local) for sa in sas)

    def leave(self, name: str) -> None:
        """Ends the IKE SAs of a tunnel at once, without waiting for the peer."""
        self._carry_out(self._core.leave(name, self._clock.now()))

    def restart(self, name: str) -> None:
        """Leaves the IKE SAs of a tunnel and calls anew, from where the route to the peer begins now."""
        self.leave(name)
        now = self._clock.now()
        self._intents[name].asked(now)
        self._call_due(now)

    def nothing_back(self, name: str) -> bool:
        """Nothing came over the SAs that a tunnel has, though IKE passes and questions were sent. True: another way is tried."""
        up = [sa for sa in self._core.latest(name, self._clock.now()) if sa.state in UP] if self._intents[name].can_call else []
        if not up or up[-1].role != "initiator" or self._peers[name].encapsulation != "auto":
            return False  # whoever called looks for another way
        if up[-1].encapsulation_why != "auto" if up[-1].udp else not self._encapsulations.fell_back(name):
            return False
        between = Between(up[-1].path.local.address, up[-1].path.remote.address)
        if not self._encapsulations.nothing_back(name, between):
            return False
        self.restart(name)
        return True

    def _no_udp(self, event: Event) -> None:
        """It is called without, at once; unless an IKE SA of it is up, which carries what there is."""
        sas = self._core.latest(event.tunnel, self._clock.now())
        if any(sa.state in UP for sa in sas):
            return
        path = next((sa.path for sa in sas if (sa.spi_i, sa.spi_r) == (event.spi_i, event.spi_r)), None)
        if path is not None:
            self.leave(event.tunnel)
            self._encapsulations.no_way(event.tunnel, Between(path.local.address, path.remote.address), event.text)
            self.restart(event.tunnel)

    def wake(self, name: str) -> None:
        """There is a way to the peer again: what failed for want of it is tried now."""
        now = self._clock.now()
        self._intents[name].reachable(now)
        self._call_due(now)

    def status(self, name: str) -> KeyingStatus:
        """What IKE knows of a tunnel: of the newest IKE SA that is up, else of the newest that is to come up."""
        now = self._clock.now()
        sas, intent = self._core.latest(name, now), self._intents[name]
        up = [sa for sa in sas if sa.state in UP]
        newest = up[-1] if up else sas[-1] if sas else None
        state, text, error = tunnel_state(sas, intent, now)
        encapsulation, why = self._encapsulations.shown(up[-1], self._peers[name]) if up else (None, None)
        again = self._core.retransmissions(name)
        return KeyingStatus(
            state=state,
            state_text=text,
            remote=", ".join(map(str, self._tunnels[name].remotes)) or "any" if newest is None else str(newest.path.remote.address),
            last_error=error,
            nat="none" if newest is None else newest.nat,
            ike=_ike_sa(up[-1], self._core.fallback(name, now)) if up else None,
            remote_in_dns=self._in_dns(self._peers[name], newest),
            up_at=intent.up_at,
            came_up_at=intent.came_up_at,
            encapsulation=encapsulation,
            encapsulation_why=why,
            silent=any(sa.silence is not None for sa in sas),
            heard_at=max([sa.heard for sa in sas], default=-inf),
            tally=intent.tally if again == 0 else msgspec.structs.replace(intent.tally, retransmissions=again),
            pinned=self._core.pinned(name),
        )

    @staticmethod
    def _in_dns(peer: Peer, newest: IkeStatus | None) -> bool | None:
        return newest.path.remote.address in peer.remotes if newest is not None and peer.named and peer.remotes else None

    def rekey_in_s(self, handle: SaHandle) -> float | None:
        """Seconds until the CHILD_SA that an SA belongs to is rekeyed; None: it is not."""
        named = self._children.named(handle)
        seconds = None if named is None else self._core.rekey_in(named[1], self._clock.now())
        return None if seconds is None else round(seconds, 1)

    def post_quantum(self, handle: SaHandle) -> PostQuantumStatus:
        """Whether the keys of the CHILD_SA that an SA belongs to withstand a quantum adversary."""
        named = self._children.named(handle)
        return PostQuantumStatus() if named is None else PostQuantumStatus.of(self._core.post_quantum(named[1]))

    def cloned(self) -> None:
        """This machine is a copy of another: IKE SAs end without a message, and are negotiated anew when wanted."""
        self._carry_out(self._core.forget(self._clock.now()))
        if self._trials is not None:
            self._trials.forget()

    @property
    def waiting(self) -> int:
        """How many messages of strangers wait for their turn."""
        return self._inbox.waiting

    def counters(self) -> dict[str, int]:
        """What the core counted, by name."""
        counted = self._core.counters()
        return {name: getattr(counted, name) for name in counted.__slots__}

    # ---- actions

    def _carry_out(self, actions: Iterable[Action]) -> None:
        self._do_all(actions)
        self._schedule()

    def _do_all(self, actions: Iterable[Action]) -> None:
        ending: list[tuple[str, int, str]] = []
        try:
            self._do_each(actions, ending)
        finally:
            for tunnel, child, why in ending:  # last: the peer knows no such SA before the answer that is among these actions
                self._do_all(self._core.delete_child(tunnel, child, self._clock.now()))
                self._intents[tunnel].cannot_carry(why)

    def _do_each(self, actions: Iterable[Action], ending: list[tuple[str, int, str]]) -> None:
        """`ending`: CHILD_SAs that cannot be carried, with their tunnels and why."""
        unmade = Unmade()
        for action in actions:
            if unmade.passes_over(action):
                continue
            try:
                self._do(action)
            except (DataPlaneError, HostError) as error:
                log.error(
                    "%s: %s", type(action).__name__, error, extra=told("action_failed", tunnel=getattr(action, "tunnel", None))
                )
                child, tunnel = getattr(action, "child", None), getattr(action, "tunnel", None)
                if child is not None and tunnel is not None:
                    unmade.add(child)
                    ending.append((tunnel, child, str(error)))

    def _do(self, action: Action) -> None:
        match action:
            case act.Send():
                self._send(action)
            case act.SendKeepalive():
                self._links.send_keepalive(action.path.local.address, outer_endpoint(action.path.remote))
            case act.ProbeResult():
                self._probed(action)
            case act.Report():
                self._reported(action.event)
                self._report(action.event)
            case _:
                self._do_in_sad(action)

    def _send(self, action: act.Send) -> None:
        self._trace.left(action.datagram, action.path)
        local, remote, natt = action.path.local.address, outer_endpoint(action.path.remote), action.path.natt
        refused = self._links.send_ike(local, remote, action.datagram, natt=natt, whole=action.whole)
        if refused is not None:
            self._do_all(self._core.unsent(action.datagram, refused, self._clock.now()))

    def _do_in_sad(self, action: Action) -> None:
        match action:
            case act.ExpectInbound():
                self._children.expect(action)
            case act.InstallInbound():
                self._children.install_inbound(action)
            case act.InstallOutbound():
                self._children.install_outbound(action)
            case act.SwitchOutbound():
                self._children.switch(action)
                self._changed(action.tunnel)
            case act.RemoveOutbound():
                self._children.remove_outbound(action.child)
            case act.RemoveChild():
                self._children.remove(action.child)
                self._changed(action.tunnel)
            case act.ReleaseSpi():
                self._children.release_spi(action.spi)
            case act.MovePath():
                self._children.move(action)

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

    def _report(self, event: Event) -> None:
        self._log(event)
        intent = self._intents.get(event.tunnel)
        if intent is not None and event.origin is act.Origin.CLAIMED:
            intent.claimed(event)
        if intent is None or event.origin in UNPROVEN:
            return
        now = self._clock.now()
        self._fallbacks.look(event.tunnel, self._core.fallback(event.tunnel, now))
        self._encapsulations.event(event)
        intent.event(event, now, others=event.kind in ENDS and self._core.has_ike_sa(event.tunnel))
        if event.kind is act.Kind.NO_UDP:
            self._no_udp(event)
        if event.kind in ANSWERED and self._fresh.pop(event.tunnel, None) is not None and self._held_back:
            self._call_due(now)

    def _schedule(self) -> None:
        """Asks for the next timer of the core. One that is due already stays: it would never have its turn if each datagram put it
        off to the next one."""
        due = self._core.next_timeout()
        if self._timer is not None:
            if due == self._timer_at or self._timer_at <= self._clock.now():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer, self._timer_at = self._clock.call_at(due, self._due), due

    def _due(self) -> None:
        """What is due by now, as far as a slice goes."""
        self._timer = None
        now, time = self._clock.now(), Slice()
        self._do_all(self._core.timer(now))
        while not time.over and (due := self._core.next_timeout()) is not None and due <= now:
            self._do_all(self._core.timer(now))
        self._schedule()


def _of_ike(end: dataplane.Endpoint) -> act.Endpoint:
    return act.Endpoint(end.address, end.port, end.scope)


def _ike_sa(sa: IkeStatus, fallback: str | None) -> IkeSaStatus:
    return IkeSaStatus(
        spi_i=sa.spi_i.hex(),
        spi_r=sa.spi_r.hex(),
        role=sa.role,
        proposal=sa.proposal,
        age_s=round(sa.age_s, 1),
        rekey_in_s=round(sa.rekey_in_s, 1),
        remote_id=sa.remote_id,
        version=sa.version,
        fallback=fallback,
        vendors=sa.vendors,
        unknown_vendors=sa.unknown_vendors,
        post_quantum=PostQuantumStatus.of(sa.post_quantum),
    )
