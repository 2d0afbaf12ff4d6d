"""IKE as the rest of a gateway knows it: what happens and what is asked for goes to the core, and what the core wants is carried
out at once. It parses and builds no IKE, and decides about no SA.

`Calls` knows the tunnels and when to call them, `TunnelPeers` how IKE is to meet their peers; `Receiver` takes what arrives,
`Executor` carries out, `IkeEvents` is where it reports to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.errors import IpsecDpError
from ipsec_dp.host.sockets import NAT_PORT
from ipsec_dp.ike import actions as act
from ipsec_dp.ike.carried.carry import import_ike
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.environment import NO_TRACE
from ipsec_dp.ipsec.packet import selectors_of_packet
from ipsec_dp.keying.calls import Calls
from ipsec_dp.keying.encapsulation_fallback import EncapsulationFallback
from ipsec_dp.keying.executor import Executor
from ipsec_dp.keying.ike_events import IkeEvents
from ipsec_dp.keying.ike_status import keying_status
from ipsec_dp.keying.leaving_ike import leaving_ike
from ipsec_dp.keying.receiver import Receiver
from ipsec_dp.keying.status import KeyingStatus, PostQuantumStatus
from ipsec_dp.keying.tunnel_peers import TunnelPeers
from ipsec_dp.util.slices import in_slices
from ipsec_dp.util.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from contextlib import AsyncExitStack

    from ipsec_dp.config import Tunnel
    from ipsec_dp.databases.sad_events import IkeDatagram
    from ipsec_dp.dataplane import OuterPath, SaHandle
    from ipsec_dp.host.unreachable import Unreachable
    from ipsec_dp.ike.actions import Action, Event
    from ipsec_dp.ike.carried.carry import CarriedCore
    from ipsec_dp.ike.carried.keys import KeysOf
    from ipsec_dp.ike.carried.model import LeftOut
    from ipsec_dp.ike.environment import Trace
    from ipsec_dp.ike.interface import IkeCore
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.keying.child_installer import IkeChildren
    from ipsec_dp.keying.encapsulations import FindingState
    from ipsec_dp.keying.ike_trials import IkeTrials
    from ipsec_dp.keying.initiation import IntentState
    from ipsec_dp.keying.leaving_ike import LeavingIke
    from ipsec_dp.keying.status import RenewalTrigger
    from ipsec_dp.keying.trial_attempt import Attempt
    from ipsec_dp.network.host import OuterLinks
    from ipsec_dp.util.clock import Clock
    from ipsec_dp.util.conditions import Conditions


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
        self._core, self._children, self._links, self._locate, self._clock = core, children, links, locate, clock
        self._refuses, self._renewing, self._trials = refuses, renewing, trials
        self._tasks = Tasks()
        tunnels = tuple(tunnels)
        self._peers = TunnelPeers(peers, tunnels, core, conditions, clock, no_esp)
        self._calls = Calls(
            tunnels,
            self._peers,
            core,
            conditions,
            clock,
            locate=locate,
            listen=self.listen,
            carry_out=self._carry_out,
            begin=self._tasks.begin,
            uncalled=uncalled,
        )
        self._fallback = EncapsulationFallback(
            core, self._peers, self._calls, clock, leave=self.leave, restart=self.restart, carry_out=self._carry_out
        )
        self._events = IkeEvents(
            core,
            self._peers,
            self._calls,
            conditions,
            clock,
            reported=reported,
            no_udp=self._fallback.no_udp,
            restart=self.restart,
        )
        self._executor = Executor(
            core,
            children,
            links,
            clock,
            trace,
            changed=changed,
            probed=probed,
            report=self._events.report,
            unmade=self._events.unmade,
        )
        self._receiver = Receiver(core, trials, clock, trace, refuses=refuses, carry_out=self._carry_out)

    def _carry_out(self, actions: Iterable[Action]) -> None:
        self._executor.carry_out(actions)

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
        self._executor.finish()

    def export(self, core: CarriedCore, keys: KeysOf) -> LeavingIke:
        """All IKE SAs, which are retired as they are given, and what is wanted of tunnels. `core` is the one that it was made with.
        `stop` is to follow. Raises CarriedStateError."""
        return leaving_ike(core, keys, self._calls.export(), self._clock.now())

    def stop(self) -> None:
        """Nothing is begun, sent or answered from now on; no peer is told."""
        self._tasks.cancel()
        self._receiver.close()
        self._executor.stop()

    def take(
        self, core: CarriedCore, octets: bytearray, intents: Mapping[str, IntentState], claim: Callable[[int], None]
    ) -> tuple[LeftOut, ...]:
        """Goes on with a piece of what was exported elsewhere; what of it is to be negotiated anew. `claim` is told of SPIs that
        were announced to peers. The octets are wiped. `begin_anew` is to follow the last. Raises CarriedStateError, and nothing
        has changed."""
        imported = import_ike(core, octets, self._clock.now())
        for _, spi in imported.reserved:
            claim(spi)
        self.take_intents(intents)
        self._carry_out(imported.actions)  # behind the intents, which know afterwards what could not be carried
        return imported.left_out

    def take_intents(self, intents: Mapping[str, IntentState]) -> None:
        """Of tunnels whose IKE SAs have come, or that have none."""
        self._calls.resume(intents)

    def begin_anew(self) -> None:
        """Tunnels of which nothing came along are called as at a start."""
        self._calls.begin_anew()

    def go_on(self, stack: AsyncExitStack) -> None:
        """`start`, after `take`."""
        self._tasks.begin(self._calls.run())
        stack.push_async_callback(self._end)

    def export_findings(self) -> dict[str, FindingState]:
        """Which tunnels' ESP goes as it does because of what was found on the way, for a process that goes on with them."""
        return self._peers.encapsulations.export()

    def take_findings(self, findings: Mapping[str, FindingState]) -> None:
        """Before the IKE SAs come, which are to meet their peers so. Raises ValueError for what was never exported."""
        self._peers.take_findings(findings)

    async def reconfigure(self, tunnels: Iterable[Tunnel], peers: Mapping[str, Peer], effects: Mapping[str, Effect]) -> None:
        """Takes tunnels over that are new or changed, with their peers. `effects`: what becomes of those that were there
        already, by name; also of those that are gone, which go first. Each is changed as a whole, very many in slices."""
        self._peers.encapsulations.forget_all()
        new = {tunnel.name: tunnel for tunnel in tunnels}
        async for name in in_slices((*(name for name in effects if name not in new), *new)):
            if name in new:
                self._take_over(new[name], peers[name], effects.get(name, Effect.RESTART))
            else:
                for each in (self._calls, self._peers, self._events):
                    each.forget(name)
            changed = {name: effects[name]} if name in effects else {}
            peer = [self._peers.applied(name)] if name in new else []
            self._carry_out(self._core.reconfigure(peer, changed, self._clock.now()))
        self._peers.encapsulations.look(self._calls.tunnels.values())

    def _take_over(self, tunnel: Tunnel, peer: Peer, effect: Effect) -> None:
        before = self._calls.tunnels.get(tunnel.name)
        self._peers.put(tunnel.name, peer, keeps_addresses=before is not None and before.remotes == tunnel.remotes)
        self._calls.take_over(tunnel, effect)

    def came_up(self) -> int:
        """How many of the tunnels that are called at the start have been up."""
        return self._calls.came_up()

    def has(self, name: str) -> bool:
        """Whether there is a tunnel of this name (a reload may be under way)."""
        return name in self._calls.tunnels

    async def judge_again(self, peers: Mapping[str, Peer]) -> None:
        """What proves tunnels' peers has changed (CRLs, by name of the tunnel): IKE SAs end that it no longer holds for, and who
        could not prove himself is called anew."""
        async for name in in_slices(self._peers.prove(peers)):
            now = self._clock.now()
            self._peers.apply(name)
            self._calls.intents[name].reachable(now)
            self._carry_out(self._core.judge_again(name, now))

    def located(self, name: str, addresses: tuple[Address, ...]) -> None:
        """What the remotes of a tunnel mean now, its names among them. IKE SAs stay as they are, and the next call asks anew."""
        self._peers.located(name, addresses)

    def peer(self, name: str) -> Peer | None:
        """Of the tunnel of this name, with its secrets."""
        return self._peers.get(name)

    def listen(self, local: Address) -> None:
        """Ports 500 and 4500 of an address, once. Raises HostError."""
        self._links.listen_ike(local, self._receiver.received)

    async def _end(self) -> None:
        """Every IKE SA is deleted at the peer too, as far as one message can."""
        self._tasks.cancel()
        self._receiver.close()
        if self._trials is not None:
            self._trials.close()
        await self._tasks.end()
        await self._executor.close()

    # ---- datagrams and events

    def datagram(self, event: IkeDatagram) -> None:
        """A message that arrived on port 4500."""
        self._receiver.datagram(event)

    def paths(self) -> dict[str, OuterPath]:
        """The way that each tunnel's packets take now, of those that are up."""
        return self._children.paths()

    def named(self, handle: SaHandle) -> tuple[str, int] | None:
        """Tunnel and number of the CHILD_SA that an SA belongs to."""
        return self._children.named(handle)

    def acquire(self, name: str, packet: bytes) -> bool:
        """A packet found no SA. False when nothing will come of it."""
        selectors = selectors_of_packet(packet)
        if selectors is None or not self.has(name):
            return False
        actions = self._core.acquire(name, selectors, self._clock.now())
        if actions is not None:
            self._carry_out(actions)
            return True
        return self._calls.want(name, selectors)

    def limit(self, name: str, child: int, *, hard: bool) -> None:
        """A CHILD_SA crossed a limit of octets, packets or sequence numbers."""
        now = self._clock.now()
        self._renewing(name, "volume")
        self._carry_out(self._core.hard_limit(name, child, now) if hard else self._core.soft_limit(name, child, now))

    def probe(self, name: str, octets: int, first_wait: float) -> bool:
        """Probes whether a datagram of so many octets reaches the peer; `probed` is called with the outcome. False: not now."""
        actions = self._core.probe(name, octets, first_wait, self._clock.now()) if self.has(name) else None
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
        self._tasks.begin(self._check_liveness())

    async def _check_liveness(self) -> None:
        async for name in in_slices(tuple(self._calls.tunnels)):
            self._carry_out(self._core.check_liveness(name, self._clock.now()))

    # ---- verbs

    def initiate(self, name: str) -> None:
        """Calls now. Raises IpsecDpError when there is no peer to call."""
        if not self._calls.intents[name].can_call:
            raise IpsecDpError(f'tunnel "{name}" has remote = "any": only the peer can call')
        self._calls.ask(name)

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
        if self._trials is None or not self._calls.intents[name].can_call:
            raise IpsecDpError(f'tunnel "{name}" has remote = "any": only the peer can call')
        pinned = self._core.pinned(name) is True
        tunnel, peer = self._calls.tunnels[name], self._peers.applied(name)
        return await self._trials.run(tunnel, peer, self._locate, self.listen, pinned=pinned)

    def leaves(self, name: str, remote: Address, local: Address) -> bool:
        """Whether an IKE SA that we called, or are calling, goes from this address of ours to that remote."""
        sas = self._core.status(name, self._clock.now()) if self._calls.intents[name].can_call else ()
        return any(sa.role == "initiator" and (sa.path.remote.address, sa.path.local.address) == (remote, local) for sa in sas)

    def leave(self, name: str) -> None:
        """Ends the IKE SAs of a tunnel at once, without waiting for the peer."""
        self._carry_out(self._core.leave(name, self._clock.now()))

    def restart(self, name: str) -> None:
        """Leaves the IKE SAs of a tunnel and calls anew, from where the route to the peer begins now."""
        self.leave(name)
        self._calls.ask(name)

    def nothing_back(self, name: str) -> bool:
        """Nothing came over the SAs that a tunnel has, though IKE passes and questions were sent. True: another way is tried."""
        return self._fallback.nothing_back(name)

    def wake(self, name: str) -> None:
        """There is a way to the peer again: what failed for want of it is tried now."""
        self._calls.wake(name)

    def status(self, name: str) -> KeyingStatus:
        """What IKE knows of a tunnel."""
        tunnel, intent = self._calls.tunnels[name], self._calls.intents[name]
        return keying_status(self._core, tunnel, intent, self._peers, self._clock.now())

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
        return self._receiver.waiting

    def counters(self) -> dict[str, int]:
        """What the core counted, by name."""
        counted = self._core.counters()
        return {name: getattr(counted, name) for name in counted.__slots__}
