"""One trial (`ike.trial`) with a core of its own and a line for each of its messages: what a running gateway and a command without
one drive alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.ike.core import IkeVersions
from ipsec_dp.ike.environment import NO_INTERFERENCE, NoWatcher, RememberedPins
from ipsec_dp.ike.trial import NegotiationTrial, peer_on_trial
from ipsec_dp.ike.v2.trace import MessageTrace

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.ike.actions import Path, Send
    from ipsec_dp.ike.environment import Environment, IkeSaTraits, IncomingKey, Trace, Watcher
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.trial import TrialOutcome

LINES_MOST: Final = 256  # messages of one attempt that are listed


class TrialWatcher(NoWatcher):
    """Who looks at datagrams first hears of the IKE SAs on trial, and keeps the cookies and the peers that the gateway has."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def known(self, traits: IkeSaTraits, key: IncomingKey | None) -> None:
        self._watcher.known(traits, key)

    def gone(self, own_spi: bytes) -> None:
        self._watcher.gone(own_spi)


def environment_on_trial(environment: Environment) -> Environment:
    """That of a gateway as a trial has it: the same randomness, SPIs and calendar, and nothing that would be remembered."""
    watcher = TrialWatcher(environment.watcher)
    return replace(environment, watcher=watcher, pins=RememberedPins(), interference=NO_INTERFERENCE, on_trial=True)


def versions_to_try(peer: Peer, *, pinned: bool) -> tuple[Peer, ...]:
    """The peer by each version of IKE that it may be met by, the first to be tried first."""
    fallback = peer.fallback
    if fallback is None or pinned or not peer.remotes:
        return (peer_on_trial(peer),)
    return peer_on_trial(peer), peer_on_trial(replace(fallback, remotes=peer.remotes))


class BothTraces:
    """`environment.Trace`: of a trial, and of the gateway, which sees it among all other messages. What arrived each hears of where
    it arrives."""

    def __init__(self, own: Trace, gateways: Trace) -> None:
        self._all = own, gateways

    def arrived(self, datagram: bytes, path: Path) -> None:
        for each in self._all:
            each.arrived(datagram, path)

    def opened(self, message: Any) -> None:
        for each in self._all:
            each.opened(message)

    def handled(self) -> None:
        for each in self._all:
            each.handled()

    def sealed(self, payloads: Any, datagrams: tuple[bytes, ...]) -> None:
        for each in self._all:
            each.sealed(payloads, datagrams)

    def described(self, datagram: bytes, text: Callable[[], str], *, proven: bool) -> None:
        for each in self._all:
            each.described(datagram, text, proven=proven)

    def left(self, datagram: bytes, path: Path) -> None:
        for each in self._all:
            each.left(datagram, path)


class Attempt:
    """To one address, by one version. `messages`: a line for each, oldest first, without any value of what is in them."""

    def __init__(self, environment: Environment, peer: Peer, path: Path, release: Callable[[int], None]) -> None:
        """`environment` and `peer` are on trial; `release` gets SPIs that are free again."""
        self.messages: list[str] = []
        self._trace = MessageTrace(self._write)
        self._traces = BothTraces(self._trace, environment.trace)
        core = IkeVersions(replace(environment, trace=self._traces), (peer,))
        self._trial = NegotiationTrial(core, peer, path, release)
        self.peer, self.path = peer, path

    def _write(self, line: str, _proven: bool) -> None:
        if len(self.messages) < LINES_MOST:
            self.messages.append(line)

    @property
    def outcome(self) -> TrialOutcome:
        return self._trial.outcome

    @property
    def over(self) -> bool:
        return self._trial.over

    def _left(self, sends: list[Send]) -> list[Send]:
        for send in sends:
            self._traces.left(send.datagram, send.path)
        return sends

    def begin(self, now: float) -> list[Send]:
        """As all that follows: the messages to be sent now."""
        return self._left(self._trial.begin(now))

    def knows(self, datagram: bytes) -> bool:
        """Whether a datagram is for it."""
        return self._trial.knows(datagram)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Send]:
        self._trace.arrived(datagram, path)
        try:
            sends = self._trial.receive(datagram, path, now)
        finally:
            self._trace.handled()
        return self._left(sends)

    def timer(self, now: float) -> list[Send]:
        return self._left(self._trial.timer(now))

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Send]:
        return self._left(self._trial.unsent(datagram, why, now))

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Send]:
        return self._left(self._trial.unreachable(message, path, reason, now))

    def abandon(self, now: float) -> list[Send]:
        return self._left(self._trial.abandon(now))

    def forget(self, now: float) -> None:
        """Not one message more may leave."""
        self._trial.forget(now)

    def next_timeout(self) -> float:
        return self._trial.next_timeout()

    @property
    def answered(self) -> bool:
        """Whether what came, or what this host says, makes another address or version no better."""
        failed = self.outcome.failed
        return failed is None or (self.outcome.ike is not None and self.outcome.ike.state != "negotiating") or self.spoken

    @property
    def spoken(self) -> bool:
        """Whether anything came from the peer that is an answer by this version."""
        return any(line.startswith("in ") for line in self.messages) and not self.outcome.unspoken
