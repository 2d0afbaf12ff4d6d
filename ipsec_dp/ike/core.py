"""The IKE core of a gateway: IKEv2's manager, and beside it IKEv1's where a tunnel asks for that version.

Each tunnel speaks one version, in both roles. Which one it is nobody outside asks: calls about a tunnel go to the manager that has
it, a datagram to the one whose version its header names. IKEv1 is loaded with the first tunnel that is to speak it; a gateway
without one answers no IKEv1 message, and reads of it no more than the header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.interface import Counters
from ipsec_dp.ike.manager import IkeManager
from ipsec_dp.ike.strangers import StrangersEvents

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ipsec_dp.ike.actions import Action, Endpoint, Path
    from ipsec_dp.ike.effect import Effect
    from ipsec_dp.ike.environment import Environment
    from ipsec_dp.ike.interface import IkeStatus
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v1.manager import IsakmpManager
    from ipsec_dp.ipsec.selectors import SelectorPair

_VERSION: Final = 17  # octet of the header, the same in every version: major and minor
_IKEV1: Final = 1


class IkeVersions:
    """See `interface.IkeCore` for its calls."""

    def __init__(self, environment: Environment, peers: Iterable[Peer] = (), events: StrangersEvents | None = None) -> None:
        self.environment = environment
        self._events = StrangersEvents() if events is None else events
        self.ikev2 = IkeManager(environment, (), self._events)
        self.ikev1: IsakmpManager | None = None
        self._of_ikev1: set[str] = set()  # tunnels
        self.set_peers(peers)

    def _loaded(self) -> IsakmpManager:
        """IKEv1's manager, from now on."""
        if self.ikev1 is None:
            from ipsec_dp.ike.v1.manager import IsakmpManager

            self.ikev1 = IsakmpManager(self.environment, self.ikev2.next_child, self._events)
        return self.ikev1

    def _of(self, tunnel: str) -> IkeManager | IsakmpManager:
        return self._loaded() if tunnel in self._of_ikev1 else self.ikev2

    @property
    def _both(self) -> tuple[IkeManager | IsakmpManager, ...]:
        return (self.ikev2,) if self.ikev1 is None else (self.ikev2, self.ikev1)

    # ---- tunnels

    def set_peers(self, peers: Iterable[Peer]) -> None:
        ikev1, ikev2 = _apart(peers)
        self._of_ikev1 = {peer.tunnel for peer in ikev1}
        self.ikev2.set_peers(ikev2)
        if ikev1 or self.ikev1 is not None:
            self._loaded().set_peers(ikev1)

    def set_peer(self, peer: Peer) -> None:
        self._of(peer.tunnel).set_peer(peer)

    def reconfigure(self, peers: Iterable[Peer], effects: Mapping[str, Effect], now: float) -> list[Action]:
        """One that changes its version is gone for the one manager, and new for the other."""
        ikev1, ikev2 = _apart(peers)
        were = {tunnel: effect for tunnel, effect in effects.items() if tunnel in self._of_ikev1}
        others = {tunnel: effect for tunnel, effect in effects.items() if tunnel not in were}
        self._of_ikev1 = (self._of_ikev1 - effects.keys() - {peer.tunnel for peer in ikev2}) | {peer.tunnel for peer in ikev1}
        actions = self.ikev2.reconfigure(ikev2, others, now)
        if ikev1 or were:
            actions += self._loaded().reconfigure(ikev1, were, now)
        return actions

    def judge_again(self, tunnel: str, now: float) -> list[Action]:
        return self._of(tunnel).judge_again(tunnel, now)

    # ---- datagrams and time

    def _reader(self, datagram: bytes) -> IkeManager | IsakmpManager:
        """Whose version the header names."""
        spoken = self.ikev1 is not None and not self.ikev1.idle
        return self._loaded() if spoken and len(datagram) > _VERSION and datagram[_VERSION] >> 4 == _IKEV1 else self.ikev2

    def knows(self, datagram: bytes) -> bool:
        return self._reader(datagram).knows(datagram)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Action]:
        return self._reader(datagram).receive(datagram, path, now)

    def next_timeout(self) -> float | None:
        times = [at for one in self._both if (at := one.next_timeout()) is not None]
        return min(times, default=None)

    def timer(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for one in self._both:
            due = one.next_timeout()
            if due is not None and due <= now:
                actions += one.timer(now)
        return actions

    # ---- commands

    def initiate(self, tunnel: str, path: Path, now: float, packet: SelectorPair | None = None) -> list[Action]:
        return self._of(tunnel).initiate(tunnel, path, now, packet)

    def acquire(self, tunnel: str, packet: SelectorPair, now: float) -> list[Action] | None:
        return self._of(tunnel).acquire(tunnel, packet, now)

    def rekey(self, tunnel: str, now: float, *, ike: bool = False) -> list[Action]:
        return self._of(tunnel).rekey(tunnel, now, ike=ike)

    def terminate(self, tunnel: str, now: float) -> list[Action]:
        return self._of(tunnel).terminate(tunnel, now)

    def leave(self, tunnel: str, now: float) -> list[Action]:
        return self._of(tunnel).leave(tunnel, now)

    def delete_child(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._of(tunnel).delete_child(tunnel, child, now)

    def soft_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._of(tunnel).soft_limit(tunnel, child, now)

    def hard_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        return self._of(tunnel).hard_limit(tunnel, child, now)

    def peer_moved(self, tunnel: str, child: int, remote: Endpoint, now: float) -> list[Action]:
        return self._of(tunnel).peer_moved(tunnel, child, remote, now)

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Action]:
        """What is quoted of a message may end before its version."""
        return [action for one in self._both for action in one.unreachable(message, path, reason, now)]

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Action]:
        return [action for one in self._both for action in one.unsent(datagram, why, now)]

    def probe(self, tunnel: str, octets: int, first_wait: float, now: float) -> list[Action] | None:
        """IKEv1 has no message that is padded and answered."""
        return None if tunnel in self._of_ikev1 else self.ikev2.probe(tunnel, octets, first_wait, now)

    def check_liveness(self, tunnel: str, now: float) -> list[Action]:
        return self._of(tunnel).check_liveness(tunnel, now)

    def close(self, now: float) -> list[Action]:
        return [action for one in self._both for action in one.close(now)]

    def forget(self, now: float) -> list[Action]:
        return [action for one in self._both for action in one.forget(now)]

    def unfinished(self) -> bool:
        return any(one.unfinished() for one in self._both)

    # ---- what is there

    def status(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        return self._of(tunnel).status(tunnel, now)

    def latest(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        return self._of(tunnel).latest(tunnel, now)

    def rekey_in(self, child: int, now: float) -> float | None:
        found = (one.rekey_in(child, now) for one in self._both)
        return next((seconds for seconds in found if seconds is not None), None)

    def retransmissions(self, tunnel: str) -> int:
        return self._of(tunnel).retransmissions(tunnel)

    def counters(self) -> Counters:
        counted, ikev1 = self.ikev2.counters(), self.ikev1
        if ikev1 is None:
            return counted
        sums = {name: getattr(counted, name) + ikev1.counts[name] for name in Counters.__dataclass_fields__}
        sums["half_open"] += ikev1.half_open
        sums["sessions"] += ikev1.held
        return Counters(**sums)


def _apart(peers: Iterable[Peer]) -> tuple[list[Peer], list[Peer]]:
    """Those that are to speak IKEv1, and the others."""
    found: tuple[list[Peer], list[Peer]] = ([], [])
    for peer in peers:
        found[peer.version != _IKEV1].append(peer)
    return found
