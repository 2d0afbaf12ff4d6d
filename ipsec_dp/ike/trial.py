"""A tunnel's negotiation on trial: phase 1, phase 2, its keys renewed once, the path, and all of it deleted again.

Pure, and of any version: it drives an `interface.IkeCore` of its own (`Environment.on_trial`), which knows this one tunnel and
none of the gateway's IKE SAs. Of what that core wants done it passes on messages and released SPIs alone: nothing is installed, and
keys are wiped where they would be.

    PHASE_1 → PHASE_2 → RENEWAL → PATH → CLOSING → OVER

Each stage ends by what comes, or by its own time (`SECONDS`); one that fails leads to CLOSING.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import actions as act
from ipsec_dp.ike.actions import Kind, Origin
from ipsec_dp.ike.peer import Liveness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipsec_dp.ike.actions import Action, Event, Path, Send
    from ipsec_dp.ike.interface import IkeCore, IkeStatus
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ipsec.selectors import SelectorPair
    from ipsec_dp.ipsec.suites import Suite

PAIRS_TRIED: Final = 16  # proxy IDs: a peer that takes one in an exchange is not asked for hundreds
TOLD_MOST: Final = 32  # texts of a trial
FIRST_WAIT: Final = 0.5  # seconds before a probe of the path is repeated
SIZES: Final = (1500, 1400, 1280)  # octets of IP datagrams that are tried, until one passes


class TrialStage(StrEnum):
    """How far it is."""

    PHASE_1 = "phase 1"
    PHASE_2 = "phase 2"
    RENEWAL = "renewal"
    PATH = "path"
    CLOSING = "closing"
    OVER = "over"


SECONDS: Final = {
    TrialStage.PHASE_1: 10.0,
    TrialStage.PHASE_2: 8.0,
    TrialStage.RENEWAL: 6.0,
    TrialStage.PATH: 8.0,
    TrialStage.CLOSING: 2.0,
    TrialStage.OVER: inf,
}
_PHASE_2: Final = {1: "quick mode", 2: "CREATE_CHILD_SA"}
_ENDS: Final = frozenset({Kind.IKE_FAILED, Kind.IKE_DOWN})
_TOLD: Final = frozenset({Kind.HINT, Kind.WARNING, Kind.CHILD_FAILED, Kind.CHILD_DOWN, Kind.IKEV1, *_ENDS})


@dataclass(frozen=True, slots=True)
class AgreedPair:
    """A pair of SAs that both sides agreed on, and nobody installed."""

    suite: Suite
    selectors: tuple[SelectorPair, ...]
    udp: bool


@dataclass(slots=True)
class TrialOutcome:
    """What came of it. `failed`: the stage that did; `exchange`: by which message; `error`: why, in the words of the log.

    `told`: all that was said on the way. `ike`: the IKE SA as it was when it was there. `refused`: proxy IDs without an SA, and
    why. `renewal`: why keys are not renewed; None: they are, or it was not tried (`renewed`). `sizes`: of datagrams, and
    whether they pass.
    """

    failed: TrialStage | None = None
    exchange: str = ""
    error: str | None = None
    unspoken: bool = False  # nothing shows that the peer speaks this version of IKE
    told: list[str] = field(default_factory=list)
    ike: IkeStatus | None = None
    pairs: list[AgreedPair] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    renewed: bool = False
    renewal: str | None = None
    sizes: dict[int, bool] = field(default_factory=dict)


def peer_on_trial(peer: Peer) -> Peer:
    """The same peer, asked for all of its proxy IDs (PAIRS_TRIED at the most) and not for long where it does not answer."""
    return replace(
        peer,
        proxy_ids=peer.proxy_ids if len(peer.proxy_ids) <= PAIRS_TRIED else tuple(peer.proxy_ids)[:PAIRS_TRIED],
        start="start",
        fail_over=True,
        fallback=None,
        liveness=Liveness(0.0, 1),
        reauth_s=0.0,
    )


class _Record:
    """What the core of a trial wants done: messages are passed on, the rest is noted, and nothing installed."""

    def __init__(self, release: Callable[[int], None]) -> None:
        self.outcome = TrialOutcome()
        self.stage = TrialStage.PHASE_1
        self._release = release
        self._spis: set[int] = set()
        self._sent: list[Send] = []

    def take(self) -> list[Send]:
        """The messages so far, which the caller then has."""
        sent, self._sent = self._sent, []
        return sent

    def do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case act.Send():
                    self._sent.append(action)
                case act.Report() if action.event.origin is Origin.OURS:  # what nobody has proven ends nothing
                    self._heard(action.event)
                case act.ExpectInbound():
                    self._spis.add(action.spi)
                case act.ReleaseSpi():
                    self._free(action.spi)
                case act.InstallInbound() | act.InstallOutbound():
                    self._agreed(action)
                case act.ProbeResult():
                    self.outcome.sizes[action.asked] = action.passed

    def _agreed(self, action: act.InstallInbound | act.InstallOutbound) -> None:
        if isinstance(action, act.InstallInbound):
            self._spis.add(action.spi)
            if action.replaces is None:
                self.outcome.pairs.append(AgreedPair(action.suite, action.selectors, action.udp))
        action.keymat[:] = bytes(len(action.keymat))

    def _free(self, spi: int) -> None:
        self._spis.discard(spi)
        self._release(spi)

    def _heard(self, event: Event) -> None:
        outcome = self.outcome
        if self.stage in (TrialStage.CLOSING, TrialStage.OVER):
            return
        if event.kind in _TOLD and event.text not in outcome.told and len(outcome.told) < TOLD_MOST:
            outcome.told.append(event.text)
        if event.kind is Kind.CHILD_REKEYED:
            outcome.renewed = True
        elif event.renewal == "ours" and event.kind in (Kind.WARNING, Kind.CHILD_FAILED):
            outcome.renewal = event.text
        elif event.kind in _ENDS:
            outcome.unspoken = event.unspoken
            self.fail(event.text, event.exchange)

    def fail(self, text: str, exchange: str = "") -> None:
        """Of the first thing that went wrong; what follows from it is no news."""
        if self.outcome.failed is None:
            self.outcome.failed, self.outcome.error, self.outcome.exchange = self.stage, text, exchange

    def refusals(self) -> None:
        """What has no SA in the end."""
        lacking = () if self.outcome.ike is None else self.outcome.ike.lacking
        self.outcome.refused = [f"{lack.proxy_id}: {lack.why or 'not answered'}" for lack in lacking[:PAIRS_TRIED]]

    def end(self) -> None:
        """No SPI is held any more."""
        for spi in tuple(self._spis):
            self._free(spi)
        self.stage = TrialStage.OVER


class NegotiationTrial:
    """One attempt to one address. `core` has `peer` (`peer_on_trial`) and nothing else; `release` gets SPIs that are free again.

    `begin`, `receive`, `timer`, `unsent` and `unreachable` return the messages that are to be sent now.
    """

    def __init__(self, core: IkeCore, peer: Peer, path: Path, release: Callable[[int], None] = lambda _spi: None) -> None:
        self.peer, self.path = peer, path
        self._core, self._record = core, _Record(release)
        self._deadline = inf
        self._left: list[int] = []  # sizes to probe

    @property
    def stage(self) -> TrialStage:
        return self._record.stage

    @property
    def outcome(self) -> TrialOutcome:
        """What is known so far."""
        return self._record.outcome

    @property
    def over(self) -> bool:
        """Nothing of it is left, here or, as far as one message can, at the peer."""
        return self.stage is TrialStage.OVER

    # ---- what is done to it

    def begin(self, now: float) -> list[Send]:
        self._enter(TrialStage.PHASE_1, now)
        return self._step(self._core.initiate(self.peer.tunnel, self.path, now), now)

    def knows(self, datagram: bytes) -> bool:
        """Whether a datagram is for it."""
        return not self.over and self._core.knows(datagram)

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Send]:
        return self._step(self._core.receive(datagram, path, now), now)

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Send]:
        """This host refuses to send it."""
        return self._step(self._core.unsent(datagram, why, now), now)

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Send]:
        """An ICMP message quotes one of ours."""
        return self._step(self._core.unreachable(message, path, reason, now), now)

    def timer(self, now: float) -> list[Send]:
        actions = self._core.timer(now)
        self._record.do(actions)
        if now >= self._deadline:
            self._late(now)
        return self._step([], now)

    def next_timeout(self) -> float:
        """When `timer` wants to be called; inf once it is over."""
        due = self._core.next_timeout()
        return inf if self.over else min(self._deadline, inf if due is None else due)

    def abandon(self, now: float) -> list[Send]:
        """Ends it at once: the peer is told, and nobody waits for the answer."""
        self._record.do(self._core.close(now))
        self._end(now)
        return self._record.take()

    def forget(self, now: float) -> None:
        """Ends it without a word."""
        self._end(now)

    def _step(self, actions: Iterable[Action], now: float) -> list[Send]:
        self._record.do(actions)
        self._look(now)
        return self._record.take()

    # ---- how it goes on

    def _enter(self, stage: TrialStage, now: float) -> None:
        self._record.stage = stage
        self._deadline = now + SECONDS[stage]

    def _look(self, now: float) -> None:
        """What came may have ended the stage, and the next one too."""
        before: TrialStage | None = None
        while before is not self.stage:
            before = self.stage
            self._note(now)
            match self.stage:
                case TrialStage.PHASE_1:
                    self._in_phase_1(now)
                case TrialStage.PHASE_2:
                    self._in_phase_2(now)
                case TrialStage.RENEWAL:
                    self._in_renewal(now)
                case TrialStage.PATH:
                    self._on_path(now)
                case TrialStage.CLOSING:
                    self._in_closing(now)

    def _note(self, now: float) -> None:
        """What the IKE SA is like, for as long as it is there."""
        latest = self._latest(now)
        if latest is not None and self.stage is not TrialStage.CLOSING:
            self.outcome.ike = latest

    def _latest(self, now: float) -> IkeStatus | None:
        return next(reversed(self._core.status(self.peer.tunnel, now)), None)

    def _in_phase_1(self, now: float) -> None:
        ike = self.outcome.ike
        if self.outcome.failed is not None:
            self._close(now)
        elif ike is not None and ike.state != "negotiating":
            self._enter(TrialStage.PHASE_2, now)

    def _in_phase_2(self, now: float) -> None:
        """Until every proxy ID has its SAs, or was refused."""
        ike = self.outcome.ike
        if self.outcome.failed is not None or ike is None:
            self._record.refusals()
            self._close(now)
        elif ike.version == 1 and not self.outcome.pairs and not ike.lacking:
            return  # quick mode is about to begin
        elif all(lack.failed for lack in ike.lacking):
            self._record.refusals()
            if self.outcome.refused:
                self._record.fail(self.outcome.told[-1] if self.outcome.told else self.outcome.refused[0], _PHASE_2[ike.version])
            if not self.outcome.pairs:
                self._close(now)
                return
            self._enter(TrialStage.RENEWAL, now)
            if ike.version == 1:  # quick mode has its key exchange from the first one on
                self._probe(now)
            else:
                self._record.do(self._core.rekey(self.peer.tunnel, now))

    def _in_renewal(self, now: float) -> None:
        if self.outcome.renewal is not None:
            self._record.fail(self.outcome.renewal, _PHASE_2[2])
        if self.outcome.renewed or self.outcome.renewal is not None:
            self._probe(now)

    def _probe(self, now: float) -> None:
        self._left = list(SIZES)
        self._enter(TrialStage.PATH, now)

    def _on_path(self, now: float) -> None:
        """From the longest down, until one passes."""
        sizes, ike = self.outcome.sizes, self.outcome.ike
        if not self._left or ike is None or ike.version == 1 or any(sizes.values()) or self._latest(now) is None:
            self._close(now)
        elif len(sizes) + len(self._left) == len(SIZES):  # the last one is answered
            asked = self._core.probe(self.peer.tunnel, self._left[0], FIRST_WAIT, now)
            if asked is not None:
                self._left.pop(0)
                self._record.do(asked)

    def _close(self, now: float) -> None:
        self._enter(TrialStage.CLOSING, now)
        self._record.do(self._core.terminate(self.peer.tunnel, now))

    def _in_closing(self, now: float) -> None:
        """Until it is deleted. A DELETE of IKEv1 is acknowledged by nobody, and sent twice."""
        due = self._core.next_timeout()
        again = self.peer.version == 1 and due is not None and due <= self._deadline
        if self._latest(now) is None and not again:
            self._end(now)

    def _end(self, now: float) -> None:
        self._record.do(self._core.forget(now))
        self._record.end()
        self._deadline = inf

    def _late(self, now: float) -> None:
        """The time of a stage is over."""
        match self.stage:
            case TrialStage.PHASE_1 | TrialStage.PHASE_2:
                silence = None if self.outcome.ike is None else self.outcome.ike.silence
                self._record.refusals()
                last = self.outcome.told[-1] if self.outcome.told else None
                self._record.fail(silence or last or f"{self.path.remote} does not go on: {self.stage} is not done", "")
                self._close(now)
            case TrialStage.RENEWAL:
                self._record.fail(f"the CHILD_SA is not rekeyed: {self.path.remote} does not answer", _PHASE_2[2])
                self._probe(now)
            case TrialStage.PATH:
                self._close(now)
            case _:
                self._record.do(self._core.close(now))
                self._end(now)
