"""The security association database (RFC 4301 §4.4.2) as the control plane uses it: CHILD_SAs, their SAs, and what happens to them.

Whoever has keys (an IKE session, or key files) calls, in this order: :meth:`Sad.allocate_spi`, :meth:`Sad.install` (an inbound SA
receives from then on), :meth:`Sad.add_child`, :meth:`Sad.install` (of the outbound SA), :meth:`Sad.switch` (it sends from then on),
and later :meth:`Sad.remove`. A rekey installs a new pair, switches the CHILD to it and removes the old pair when nothing is in
flight.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ipsec_dp.databases.carried_sas import NotCarried
from ipsec_dp.databases.leaving_sas import exported_one_by_one, exported_records
from ipsec_dp.databases.sad_events import event_of
from ipsec_dp.databases.sad_records import ChildSa, SaRecord
from ipsec_dp.databases.unowned_sas import Unowned
from ipsec_dp.dataplane import Direction, PuntKind, SaCondition, SaFlag, SaHandle, SaParams, owner_of
from ipsec_dp.errors import DataPlaneError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ipsec_dp.databases.carried_sas import CarriedRecords, CarriedSad
    from ipsec_dp.databases.sad_events import Event
    from ipsec_dp.dataplane import Channel, DataPlane, Endpoint, OuterPath, SaInfo, TunnelTraffic
    from ipsec_dp.ipsec.addresses import Address
    from ipsec_dp.ipsec.selectors import SelectorPair

RECENT_S = 20.0
NS_PER_S = 1e9
PUNTS_AT_ONCE = 256  # a busy channel does not starve the rest of the control plane


_NOBODYS = SaHandle(0)

K = TypeVar("K")
_Ends = tuple["Address", "Address"] | None


def _ends(path: OuterPath | None) -> _Ends:
    """Where packets go, and from where."""
    return None if path is None else (path.remote.address, path.local.address)


def _take_out(index: dict[K, set[SaHandle]], key: K, handle: SaHandle) -> None:
    index[key].discard(handle)
    if not index[key]:
        del index[key]


class Sad:
    """SAs and CHILD_SAs of one data plane. `now` gives seconds of a monotonic clock, `random` octets that nobody can foretell."""

    def __init__(self, plane: DataPlane, now: Callable[[], float], random: Callable[[int], bytes]) -> None:
        self._plane = plane
        self._now, self._random = now, random
        self.records: dict[SaHandle, SaRecord] = {}
        self.children: dict[int, ChildSa] = {}
        self._of_tunnel: dict[int, dict[int, ChildSa]] = {}
        self._handles: dict[int, set[SaHandle]] = {}  # by tunnel
        self._by_spi: dict[int, set[SaHandle]] = {}  # outbound SAs: peers choose these SPIs, so two may have one
        self._senders: dict[_Ends, set[SaHandle]] = {}  # outbound SAs by both ends of their path
        self._users: dict[SaHandle, dict[int, ChildSa]] = {}  # CHILD_SAs that send or receive by an SA
        self._waits = False  # whether what is installed now waits for `import_all`
        self._waiting: dict[SaHandle, None] = {}
        self._unowned: Unowned | None = None
        self.expected: dict[int, Endpoint] = {}  # SPIs that `expect_spi` named to a peer, until they are installed or released

    def allocate_spi(self, random: int, receiver: int = 0) -> int:
        """An SPI to announce to the peer, kept until it is installed or released. Its datagrams come to worker `receiver`."""
        return self._plane.allocate_spi(random, receiver)

    def try_allocate_spi(self, receiver: int = 0) -> int | None:
        """`allocate_spi` with a random number of its own; None when there is none left."""
        try:
            return self._plane.allocate_spi(int.from_bytes(self._random(4)), receiver)
        except DataPlaneError:
            return None

    def expect_spi(self, spi: int, peer: Endpoint) -> bool:
        """A request is about to name this SPI to `peer`, an address with the UDP port that IKE is spoken with: what comes on it
        before `install` is kept for the SA, for a short time and within limits. False: too many are under way, so it is lost."""
        try:
            self._plane.expect_spi(spi, peer)
        except DataPlaneError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        self.expected[spi] = peer
        return True

    def claim_spi(self, spi: int) -> None:
        """An SPI that was announced to a peer elsewhere; as `DataPlane.claim_spi`, but once more is nothing more."""
        if spi not in self.expected:
            self._plane.claim_spi(spi)

    def release_spi(self, spi: int) -> None:
        self.expected.pop(spi, None)
        self._plane.release_spi(spi)

    def install(self, params: SaParams) -> SaHandle:
        """An inbound SA is ready to receive on return, an outbound one sends nothing before `switch`. Raises DataPlaneError; the
        caller wipes the keys either way."""
        if self._unowned is not None:
            return self._owned(params, self._unowned)
        handle = self._put(params)
        self.records[handle] = SaRecord(
            handle,
            params.direction,
            params.spi,
            params.tunnel,
            params.suite,
            tuple(params.selectors),
            params.limits,
            self._now(),
            params.path,
            replay_window=params.replay_window if params.direction is Direction.INBOUND else None,
            fragments_also=params.fragments_also,
            resource=params.resource,
            worker=owner_of(params.tunnel, self._plane.workers, params.resource),
        )
        self._handles.setdefault(params.tunnel, set()).add(handle)
        if params.direction is Direction.INBOUND:
            self.expected.pop(params.spi, None)
        else:
            self._by_spi.setdefault(params.spi, set()).add(handle)
            self._senders.setdefault(_ends(params.path), set()).add(handle)
        return handle

    def _put(self, params: SaParams) -> SaHandle:
        """Into the data plane: one that begins, or one that is to wait."""
        owner = owner_of(params.tunnel, self._plane.workers, params.resource)
        if not self._waits:
            return self._plane.install(params, owner)
        handle = self._plane.install_waiting(params, owner)
        self._waiting[handle] = None
        return handle

    def install_inbound(self, **values: Any) -> SaHandle:
        """`install`, of an inbound SA; `values`: those of `SaParams`."""
        return self.install(SaParams(direction=Direction.INBOUND, **values))

    def install_outbound(self, **values: Any) -> SaHandle:
        """`install`, of an outbound SA; `values`: those of `SaParams`."""
        return self.install(SaParams(direction=Direction.OUTBOUND, **values))

    def add_child(self, tunnel: int, selectors: Sequence[SelectorPair], inbound: SaHandle | None = None) -> ChildSa:
        """A CHILD_SA of a tunnel. Packets take the first one, in the order of adding, whose selectors hold them."""
        number = self._plane.add_child(tunnel, selectors)
        child = ChildSa(number, tunnel, tuple(selectors), inbound)
        if self._unowned is not None:
            self._unowned.children.add(number)
        self.children[number] = self._of_tunnel.setdefault(tunnel, {})[number] = child
        if inbound is not None:
            self._users.setdefault(inbound, {})[number] = child
        return child

    def receive_by(self, child: ChildSa, inbound: SaHandle) -> None:
        """The CHILD_SA receives by this SA too from now on, the newest it has."""
        child.inbound = inbound
        self._users.setdefault(inbound, {})[child.number] = child

    def switch(self, child: ChildSa, outbound: SaHandle | None, inbound: SaHandle | None = None) -> None:
        """The CHILD sends by `outbound` from now on; `inbound`, where given, is what it receives by from now on."""
        self._plane.switch(child.tunnel, child.number, outbound)
        child.outbound = outbound
        if outbound is not None:
            self._users.setdefault(outbound, {})[child.number] = child
        if inbound is not None:
            self.receive_by(child, inbound)

    def remove(self, handle: SaHandle) -> None:
        """Ends an SA at once; its key is wiped as soon as no loop holds it (`reclaim`)."""
        self._plane.remove(handle)
        record = self.records.pop(handle)
        self._waiting.pop(handle, None)
        _take_out(self._handles, record.tunnel, handle)
        if record.direction is Direction.OUTBOUND:
            _take_out(self._by_spi, record.spi, handle)
            _take_out(self._senders, _ends(record.path), handle)
        for child in self._users.pop(handle, {}).values():
            if child.outbound == handle:
                child.outbound = None
            if child.inbound == handle:
                child.inbound = None

    def remove_child(self, child: ChildSa) -> None:
        """Ends a CHILD_SA and both its SAs."""
        self._plane.remove_child(child.tunnel, child.number)
        del self.children[child.number], self._of_tunnel[child.tunnel][child.number]
        if not self._of_tunnel[child.tunnel]:
            del self._of_tunnel[child.tunnel]
        for handle in (child.outbound, child.inbound):
            if handle is not None:
                self.remove(handle)

    def forget_child(self, child: ChildSa) -> None:
        """Ends a CHILD_SA; its SAs stay."""
        self.switch(child, None)
        child.inbound = None
        self.remove_child(child)

    def set_path(self, handle: SaHandle, path: OuterPath) -> None:
        """An outbound SA's packets go there from now on."""
        self._plane.set_path(handle, path)
        record = self.records[handle]
        _take_out(self._senders, _ends(record.path), handle)
        self._senders.setdefault(_ends(path), set()).add(handle)
        record.path = path

    def reclaim(self) -> int:
        """Wipes and frees what was removed; how much still waits for a loop to let go."""
        return self._plane.reclaim()

    def read(self, handle: SaHandle) -> SaInfo:
        return self._plane.read_sa(handle)

    def last_use(self, handle: SaHandle) -> int:
        """When an SA was last used, nanoseconds; 0: never."""
        return self._plane.last_use(handle)

    def traffic(self, tunnel: int) -> TunnelTraffic:
        """What a tunnel has carried by all SAs that it has and had."""
        return self._plane.tunnel_traffic(tunnel, self._handles.get(tunnel, ()))

    def sent(self, remote: Address, local: Address | None) -> int:
        """Sequence numbers that the outbound SAs from an address of ours to one of a peer have used, in all."""
        handles = () if local is None else self._senders.get((remote, local), ())
        return sum(self._plane.read_sa(handle).sequence for handle in handles)

    def sent_recently(self, spi: int, sequence: int, local: Address, remote: Address) -> bool:
        """Whether an SA with this SPI sent a packet with the low 32 bits `sequence` from `local` to `remote` in the last
        RECENT_S seconds or so: what an ICMP message must quote to be believed (RFC 4301 §8.2.1)."""
        for handle in self._by_spi.get(spi, ()):
            path, info = self.records[handle].path, self._plane.read_sa(handle)
            fresh = info.last_use and self._now() - info.last_use / NS_PER_S < RECENT_S
            if path is None or not fresh or (path.local.address, path.remote.address) != (local, remote):
                continue
            if (info.sequence - sequence) % 2**32 < info.sequence - info.recent:
                return True
        return False

    def children_of(self, tunnel: int) -> list[ChildSa]:
        return list(self._of_tunnel.get(tunnel, {}).values())

    def count_of(self, tunnel: int) -> int:
        """How many `children_of` has."""
        return len(self._of_tunnel.get(tunnel, ()))

    def holds(self, child: ChildSa) -> bool:
        """Whether a CHILD_SA was not removed yet."""
        return self.children.get(child.number) is child

    # ---- to another process, and from one

    def export(self) -> CarriedSad:
        """All SAs whole, which are retired by this. Raises DataPlaneError (EAGAIN), and none has left, while a loop has packets
        from before: it is to be asked again."""
        return exported_one_by_one(self._plane, self.records)

    def export_all(self) -> CarriedRecords:
        """`export`, in one call of the data plane, for `import_all` of a process of the same `record_layout`."""
        return exported_records(self._plane, self.records)

    @property
    def waiting(self) -> tuple[SaHandle, ...]:
        """The SAs that `awaiting` made and that have not gone on."""
        return tuple(self._waiting)

    @contextmanager
    def awaiting(self) -> Iterator[None]:
        """Within it `install` takes no keying material: the SA neither seals nor opens (retired) before `import_all`."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def import_all(self, carried: CarriedRecords, ours: Mapping[int, SaHandle]) -> NotCarried:
        """The SAs that wait go on from these records, while receiving is paused; `ours`: which they are, by the source's handle.
        All keying material in it is wiped, whatever comes of it. Raises DataPlaneError, and none goes on: as `DataPlane.go_on`;
        EINVAL also for records of another layout."""
        try:
            carried.check()
            known = [ours.get(handle, _NOBODYS) for handle in carried.handles]
            found = [handle if handle in self._waiting else _NOBODYS for handle in known]
            refused = self._plane.go_on(found, carried.records)
        finally:
            carried.wipe()
        rest = tuple(carried.handles[place] for place, handle in enumerate(found) if handle == _NOBODYS)
        for place, flags in carried.reported.items():
            if found[place] != _NOBODYS:
                self.records[found[place]].reported = SaFlag(flags)
        if not refused and len(found) - len(rest) == len(self._waiting):
            self._waiting.clear()  # each of them, since each goes on once
        else:
            gone_on = {*found}.difference(found[place] for place in refused)
            self._waiting = {handle: None for handle in self._waiting if handle not in gone_on}
        return NotCarried(self.waiting, rest, tuple((self.records[found[place]].spi, why) for place, why in refused.items()))

    @contextmanager
    def adopting(self) -> Iterator[Unowned]:
        """Within it `install` gives the SA that is there already, each once, and refuses one that is not (ENOKEY); keying material
        means nothing. What nobody has asked for is for `end_unowned`."""
        self._unowned = unowned = Unowned(self.records.values())
        try:
            yield unowned
        finally:
            self._unowned = None

    @property
    def adopts(self) -> bool:
        """Whether `install` gives what is there already."""
        return self._unowned is not None

    def _owned(self, params: SaParams, unowned: Unowned) -> SaHandle:
        handle = unowned.take(params)
        if params.path is not None and self.records[handle].path != params.path:
            self.set_path(handle, params.path)
        return handle

    def adopted_child(self, outbound: SaHandle | None) -> ChildSa | None:
        """While SAs are adopted: the CHILD_SA that sends by this one already."""
        if self._unowned is None or outbound is None:
            return None
        found = next((child for child in self._users.get(outbound, {}).values() if child.outbound == outbound), None)
        if found is not None:
            self._unowned.children.add(found.number)
        return found

    def end_unowned(self, unowned: Unowned, kept: Collection[int]) -> list[int]:
        """No SA stays that nobody rekeys, deletes or watches; but those of the tunnels `kept`. The SPIs of those that ended."""
        for child in [one for one in self.children.values() if one.tunnel not in kept and one.number not in unowned.children]:
            self.forget_child(child)
        ended = [self.records[handle] for handle in unowned.rest if self.records[handle].tunnel not in kept]
        for record in ended:
            self.remove(record.handle)
        return [record.spi for record in ended]

    # ---- events

    def events(self, channel: Channel) -> Iterator[Event]:
        """What a channel holds now, at most PUNTS_AT_ONCE of it."""
        for _ in range(PUNTS_AT_ONCE):
            punt = self._plane.read_punt(channel)
            if punt is None:
                return
            event = self._condition(punt.sa, punt.flags) if punt.kind is PuntKind.SA else event_of(punt)
            if event is not None:
                yield event

    def _condition(self, handle: SaHandle, flags: SaFlag) -> SaCondition | None:
        """Flags that were not reported yet; None when there are none or the SA is gone."""
        record = self.records.get(handle)
        if record is None or flags & ~record.reported == SaFlag(0):
            return None
        new = flags & ~record.reported
        record.reported |= flags
        return SaCondition(handle, record.tunnel, record.spi, new)

    def rescan(self) -> Iterator[Event]:
        """Conditions whose punt was lost in a full channel: call it each second."""
        for condition in self._plane.conditions():
            event = self._condition(condition.handle, condition.flags)
            if event is not None:
                yield event

    def acted(self, handle: SaHandle, flags: SaFlag) -> None:
        """Lets these conditions be raised again."""
        self._plane.clear(handle, flags)
        self.records[handle].reported &= ~flags

    def acquired(self, tunnel: int) -> None:
        """Lets the next packet without an SA ask again."""
        self._plane.take_acquire(tunnel)
