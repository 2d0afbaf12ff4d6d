"""What `ipsec-dp test` says of a negotiation on trial, with a gateway and without one: how far it came, both sides as far as they
are known, and what it cannot show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ipsec_dp.config.check import tunnel_place
from ipsec_dp.ike import proposal
from ipsec_dp.ike.authorities import subject_text, time_fault
from ipsec_dp.ike.peer import SignatureAuth
from ipsec_dp.ike.trial import PAIRS_TRIED, TrialStage
from ipsec_dp.keying.initiation import WAITS_TO_BE_CALLED
from ipsec_dp.services.path_mtu import BLACK_HOLE
from ipsec_dp.services.tunnel_mtu import OuterEnds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cryptography import x509

    from ipsec_dp.config import Tunnel
    from ipsec_dp.errors import Finding
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.trial import TrialOutcome
    from ipsec_dp.keying.status import KeyingStatus
    from ipsec_dp.keying.trial_attempt import Attempt

SCHEMA: Final = 1

StepState = Literal["ok", "failed", "not tried"]

_NOTHING_LEFT: Final = (
    "nothing was installed, and what was made at the peer was deleted: packets of the tunnel that the peer sealed for it meanwhile "
    "are lost"
)
_ESP_UNTRIED: Final = (
    "whether ESP passes was not tried, since nothing is installed: should packets get no answer once the tunnel is up, IP protocol "
    '50 (ESP) is blocked on the way, while IKE passes: let it pass, or try encapsulation = "udp" here'
)


class TrialStep(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: "phase 1", "phase 2", "renewal", "path"."""

    step: str
    state: StepState
    text: str


class TrialCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """One of a chain, the side's own first. `fault`: why it is not valid now."""

    side: Literal["ours", "peer"]
    subject: str
    issuer: str
    valid_from: str
    valid_until: str
    fault: str | None = None


class TrialAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`asks`: nothing was done, since the tunnel is up; what a trial beside that may do. `failed`, `exchange`: the stage and the
    message that failed, `error`: why. `told`: what was said on the way; `others`: addresses and versions tried before, and
    what came of it. What only an agreement tells is None before one."""

    schema: int = SCHEMA
    tunnel: str
    passed: bool
    asks: str | None = None
    version: int | None = None
    local: str | None = None
    remote: str | None = None
    failed: str | None = None
    exchange: str | None = None
    error: str | None = None
    steps: tuple[TrialStep, ...] = ()
    told: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    ike_offered: str = ""
    ike_agreed: str | None = None
    esp_offered: str = ""
    esp_agreed: tuple[str, ...] = ()
    selectors_offered: tuple[str, ...] = ()
    selectors_agreed: tuple[str, ...] = ()
    selectors_refused: tuple[str, ...] = ()
    local_id: str | None = None
    expected_id: str | None = None
    remote_id: str | None = None
    certificates: tuple[TrialCertificate, ...] = ()
    nat: str | None = None
    encapsulation: str | None = None
    fragmentation: bool | None = None
    datagram: int | None = None  # octets of the longest that passed
    vendors: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()


def asking(tunnel: Tunnel) -> TrialAnswer:
    """It is up: nothing is done before somebody says so."""
    text = (
        f'tunnel "{tunnel.name}" is up, and a test makes a second IKE SA between the same identities. No INITIAL_CONTACT is sent; '
        "all the same the peer may take it for the successor of the first one, delete that and interrupt the traffic (uniqueness), "
        "refuse it as a duplicate, or seal packets for it that are lost until it is deleted again"
    )
    return TrialAnswer(tunnel=tunnel.name, passed=False, asks=text)


# ---- what is to be known besides -------------------------------------------------------------------------------------------------


def notes_on(tunnel: Tunnel, warnings: Iterable[Finding], conditions: Iterable[str]) -> tuple[str, ...]:
    """What the configuration and the gateway say about a tunnel already."""
    place = tunnel_place(tunnel.name)
    said = [str(finding) for finding in warnings if finding.where == place]
    remotes = [f"path to {remote}" for remote in tunnel.remotes]
    theirs = [
        text for text in conditions if any(text.startswith(f"{about}:") or f"{about} " in text for about in (place, *remotes))
    ]
    said += [text for text in theirs if not any(text.removeprefix(f"{place}: ") in finding for finding in said)]
    if tunnel.start == "respond" and tunnel.remotes:
        said.append(f'start = "respond": outside of a test it does not call: {WAITS_TO_BE_CALLED}')
    return tuple(said)


def state_note(status: KeyingStatus, told: Iterable[str]) -> tuple[str, ...]:
    """How the tunnel itself is, where there is more to say than a word, and it is not `told` already."""
    text = status.state_text
    known = text in ("", status.state) or any(text in note for note in told)
    return () if known else (f"the tunnel itself is {status.state}: {text}",)


# ---- what came of it -------------------------------------------------------------------------------------------------------------


def answer_of(tunnel: Tunnel, attempts: Sequence[Attempt], notes: tuple[str, ...], at: datetime) -> TrialAnswer:
    """`attempts`: one at least, the last one counts. `at`: for certificates."""
    last = attempts[-1]
    outcome, peer, path, ike = last.outcome, last.peer, last.path, last.outcome.ike
    agreed = ike is not None and bool(ike.proposal)
    left_out = len(tunnel.selectors) - len(peer.proxy_ids)
    more = (f"{left_out} further proxy IDs were not asked for: a test tries {PAIRS_TRIED}",) if left_out > 0 else ()
    esp = (_ESP_UNTRIED,) if any(not pair.udp for pair in outcome.pairs) else ()
    steps = tuple(_steps(last))
    bad = next((each for each in steps if each.state == "failed"), None)
    return TrialAnswer(
        tunnel=tunnel.name,
        passed=bad is None,
        version=peer.version,
        local=str((path if ike is None else ike.path).local),
        remote=str((path if ike is None else ike.path).remote),
        failed=None if bad is None else bad.step,
        exchange=outcome.exchange or None,
        error=outcome.error or (None if bad is None else bad.text),
        steps=steps,
        told=tuple(text for text in outcome.told if text != outcome.error),
        others=tuple(f"IKEv{each.peer.version}, {each.path.remote}: {each.outcome.error}" for each in attempts[:-1]),
        notes=(*notes, *more, *esp, *((_NOTHING_LEFT,) if outcome.pairs else ())),
        ike_offered=proposal.text(peer.ike_proposals),
        ike_agreed=ike.proposal if ike is not None and agreed else None,
        esp_offered=proposal.text(peer.esp_proposals),
        esp_agreed=tuple(dict.fromkeys(pair.suite.keyword + ("-esn" if pair.suite.esn else "") for pair in outcome.pairs)),
        selectors_offered=tuple(map(str, peer.proxy_ids)),
        selectors_agreed=tuple(str(each) for pair in outcome.pairs for each in pair.selectors),
        selectors_refused=tuple(outcome.refused),
        local_id=_own_identity(peer, outcome),
        expected_id=None if peer.remote_id is None else str(peer.remote_id),
        remote_id=ike.remote_id if ike is not None and ike.state != "negotiating" else None,
        certificates=tuple(_certificates(peer, outcome, at)),
        nat=ike.nat if ike is not None and agreed else None,
        encapsulation=None if not outcome.pairs else "udp" if outcome.pairs[0].udp else "esp",
        fragmentation=ike.fragmentation if ike is not None and agreed else None,
        datagram=max((octets for octets, passed in outcome.sizes.items() if passed), default=None),
        vendors=() if ike is None else ike.vendors,
        messages=tuple(last.messages),
    )


def _own_identity(peer: Peer, outcome: TrialOutcome) -> str | None:
    known = "" if outcome.ike is None else outcome.ike.local_id
    return known or (None if peer.local_id is None else str(peer.local_id))


def _certificates(peer: Peer, outcome: TrialOutcome, at: datetime) -> Iterable[TrialCertificate]:
    if isinstance(peer.auth, SignatureAuth):
        yield from (_certificate("ours", each, at) for each in peer.auth.credential.certificates)
    if outcome.ike is not None:
        yield from (_certificate("peer", each, at) for each in outcome.ike.certificates)


def _certificate(side: Literal["ours", "peer"], one: x509.Certificate, at: datetime) -> TrialCertificate:
    return TrialCertificate(
        side=side,
        subject=subject_text(one.subject),
        issuer=subject_text(one.issuer),
        valid_from=f"{one.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
        valid_until=f"{one.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC",
        fault=time_fault(one, at),
    )


# ---- its stages ------------------------------------------------------------------------------------------------------------------


def _steps(attempt: Attempt) -> Iterable[TrialStep]:
    outcome, ike = attempt.outcome, attempt.outcome.ike
    made = {
        TrialStage.PHASE_1: "" if ike is None else f"IKEv{ike.version} with {ike.remote_id} at {ike.path.remote}, {ike.proposal}",
        TrialStage.PHASE_2: f"{len(outcome.pairs)} of {len(attempt.peer.proxy_ids)} asked for: " + ", ".join(_agreed(outcome)),
        TrialStage.RENEWAL: "a rekey, with its own key exchange where one is configured, is agreed on",
        TrialStage.PATH: "",
    }
    if attempt.peer.version == 1:
        del made[TrialStage.RENEWAL]  # quick mode has its key exchange from the first one on
    reached = True
    for stage, text in made.items():
        if outcome.failed is stage:
            yield TrialStep(
                step=stage, state="failed", text=f"{f'{outcome.exchange}: ' if outcome.exchange else ''}{outcome.error}"
            )
            reached = bool(outcome.pairs)
        elif not reached or (stage is TrialStage.PATH and not outcome.sizes):
            yield TrialStep(step=stage, state="not tried", text=_why_untried(attempt, stage))
        elif stage is TrialStage.PATH:
            yield _path(attempt)
        else:
            yield TrialStep(step=stage, state="ok", text=text)


def _agreed(outcome: TrialOutcome) -> list[str]:
    return [f"{pair.suite.keyword} for {each}" for pair in outcome.pairs for each in pair.selectors]


def _why_untried(attempt: Attempt, stage: TrialStage) -> str:
    if stage is TrialStage.PATH and attempt.peer.version == 1:
        return "IKEv1 has no message that could be padded and is answered"
    return "it did not come to that"


def _path(attempt: Attempt) -> TrialStep:
    sizes = attempt.outcome.sizes
    lost = [octets for octets, passed in sizes.items() if not passed]
    passed = max((octets for octets, passes in sizes.items() if passes), default=None)
    if passed is None:
        path = OuterEnds(attempt.path.remote.address, attempt.path.local.address)
        return TrialStep(step=TrialStage.PATH, state="failed", text=f"{BLACK_HOLE.format(path)} ({min(lost)} octets are lost)")
    text = f"datagrams of {passed} octets pass"
    if lost:
        text += f", of {min(lost)} do not: the MTU between is found once the tunnel is up"
    return TrialStep(step=TrialStage.PATH, state="ok", text=text)
