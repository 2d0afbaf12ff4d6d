"""What a peer's refusals mean, each error by its name, and what else leads to new keys (RFC 7296 §1.3, §2.8, §3.10.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import proposal
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.v2.deadlines import retry_child
from ipsec_dp.ike.v2.groups import groups_of
from ipsec_dp.ike.v2.payloads import Notify, SecurityAssociation
from ipsec_dp.ike.v2.wire import NotifyType
from ipsec_dp.ipsec import iana
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.sa import Child

_OF_VERSION: Final = frozenset({NotifyType.INVALID_MAJOR_VERSION, NotifyType.NO_PROPOSAL_CHOSEN})
SELECTORS: Final = frozenset({NotifyType.TS_UNACCEPTABLE, NotifyType.SINGLE_PAIR_REQUIRED})
_NO_POOL: Final = "configure this connection there as one between sites, without a pool of addresses"
_MEANINGS: Final = {  # of errors that say more than their name; NO_PROPOSAL_CHOSEN and those of selectors: with what we offered
    NotifyType.FAILED_CP_REQUIRED: f"it wants to hand out addresses, and none is asked for here: {_NO_POOL}",
    NotifyType.INTERNAL_ADDRESS_FAILURE: f"it has no address to hand out, and none is asked for here: {_NO_POOL}",
    NotifyType.NO_ADDITIONAL_SAS: "it takes no further SA on this IKE SA: what is its limit?",
    NotifyType.INVALID_SYNTAX: "it could not read our request: its log tells why",
    NotifyType.INVALID_SELECTORS: "packets of ours were outside of what was agreed on",
    NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD: "it must understand something that it does not: its log tells what",
    NotifyType.TEMPORARY_FAILURE: "not now: it is busy with another exchange",
    46: "AUTH was good, and it does not let us in all the same: its policy tells why",  # AUTHORIZATION_FAILED
}


def errors_in(message: Message) -> tuple[int, ...]:
    """The types of all error notifies, each once."""
    return tuple(dict.fromkeys(notify.notify_type for notify in message.all(Notify) if notify.is_error))


def of_version(message: Message) -> bool:
    """Whether an IKE_SA_INIT response comes from where IKEv2 is not spoken, or not with us: a daemon that knows both versions says
    NO_PROPOSAL_CHOSEN where it is to speak the other one."""
    return message.get(SecurityAssociation) is None and bool(kinds := errors_in(message)) and _OF_VERSION.issuperset(kinds)


def in_words(kinds: Iterable[int]) -> str:
    """Each error by its name, with what it means where the name does not say it."""
    return "; ".join(f"{iana.notify_text(kind)}{f' ({_MEANINGS[kind]})' if kind in _MEANINGS else ''}" for kind in kinds)


def besides(text: str, known: int) -> str:
    """What `in_words` said besides one error that is explained otherwise."""
    others = [part for part in text.partition(": ")[2].split("; ") if part != iana.notify_text(known)]
    return f"; it says besides: {'; '.join(others)}" if others else ""


def of_child(peer: Peer, offered: str, kinds: Iterable[int], text: str) -> tuple[str, Cause]:
    """Why the peer made no CHILD_SA, as far as we can know. `offered`: our selectors; `text`: where it names no error."""
    kinds = tuple(kinds)
    said: list[str] = []
    cause = Cause.REFUSED
    for kind in kinds:
        if kind in SELECTORS:
            cause = Cause.SELECTORS
            said.append(
                f"{iana.notify_text(kind)}: the peer accepts none of our selectors ({offered}): its proxy IDs must have something "
                "in common with ours, mirrored (proxy_id here)"
            )
        elif kind == NotifyType.NO_PROPOSAL_CHOSEN:
            cause = Cause.PROPOSAL
            ours = proposal.text(peer.esp_proposals)
            said.append(
                f"{iana.notify_text(kind)}: the peer accepts none of our ESP proposals ({ours}); its log tells what it would: "
                "add that to esp.proposals here"
            )
    others = [kind for kind in kinds if kind not in SELECTORS and kind != NotifyType.NO_PROPOSAL_CHOSEN]
    if others or not said:
        cause = Cause.REFUSED if others else cause
        said.insert(0, f"{f'the peer refuses: {in_words(others)}' if others else text} ({offered})")
    return "; ".join(said), cause


def beside_an_answer(context: Context, kinds: Iterable[int], child: int) -> None:
    """The peer made the CHILD_SA and complains all the same."""
    said = in_words(kinds)
    if said:
        context.report(Kind.WARNING, f"the peer made the CHILD_SA, and says besides: {said}", cause=Cause.REFUSED, child=child)


def rekey_refused(context: Context, old: Child, kind: int | None, text: str, now: float) -> None:
    """Told once for each CHILD_SA, and tried again after a while. `kind`: of the peer's notify, which `text` names.

    A peer that makes no further SA on this IKE SA (NO_ADDITIONAL_SAS) may make them on another: we call beside it, in time.
    """
    if old.failures == 0 and kind != NotifyType.TEMPORARY_FAILURE:
        told = f"{spi_text(old.spi_in)} is not rekeyed: {text}{_suspicion(context, old, kind)}{instead(kind)}"
        context.report(Kind.WARNING, told, cause=Cause.REFUSED, child=old.number, renewal="ours")
    retry_child(old, now, context.host.environment.rng)
    call_beside(context, kind, now)


def instead(kind: int | None) -> str:
    """What `call_beside` does, in words."""
    return "; a new IKE SA is made instead" if kind == NotifyType.NO_ADDITIONAL_SAS else ""


def call_beside(context: Context, kind: int | None, now: float) -> None:
    """A new IKE SA in the place of this one, where nothing can be made on this one any more."""
    if kind == NotifyType.NO_ADDITIONAL_SAS:
        context.deadlines.reauth_at = min(context.deadlines.reauth_at, now)


def _suspicion(context: Context, old: Child, kind: int | None) -> str:
    """What it may be about."""
    if kind != NotifyType.NO_PROPOSAL_CHOSEN or old.suite.group is not None:
        return ""
    ours = context.peer.esp_proposals
    groups = ", ".join(group.keyword for group in groups_of(ours))
    wants = f"ours asks for {groups}: does the peer's?" if groups else "ours has none: does the peer ask for a group?"
    return (
        f"; it was made in IKE_AUTH, which has no key exchange, so this is the first time that forward secrecy counts: {wants} "
        f"(esp.proposals here: {proposal.text(ours)})"
    )
