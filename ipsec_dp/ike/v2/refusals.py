"""A rekey of a CHILD_SA that the peer refuses: what to say of it, and what else leads to new keys (RFC 7296 §1.3, §2.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import proposal
from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.v2.deadlines import retry_child
from ipsec_dp.ike.v2.groups import groups_of
from ipsec_dp.ike.v2.wire import NotifyType
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import Child


def rekey_refused(context: Context, old: Child, kind: int | None, text: str, now: float) -> None:
    """Told once for each CHILD_SA, and tried again after a while. `kind`: of the peer's notify, which `text` names.

    A peer that makes no further SA on this IKE SA (NO_ADDITIONAL_SAS) may make them on another: we call beside it, in time.
    """
    if old.failures == 0 and kind != NotifyType.TEMPORARY_FAILURE:
        told = f"{spi_text(old.spi_in)} is not rekeyed: {text}{_suspicion(context, old, kind)}"
        context.report(Kind.WARNING, told, cause=Cause.REFUSED, child=old.number)
    retry_child(old, now, context.host.environment.rng)
    if kind == NotifyType.NO_ADDITIONAL_SAS:
        context.deadlines.reauth_at = min(context.deadlines.reauth_at, now)


def _suspicion(context: Context, old: Child, kind: int | None) -> str:
    """What it may be about."""
    if kind == NotifyType.NO_ADDITIONAL_SAS:
        return "; a new IKE SA is made instead"
    if kind != NotifyType.NO_PROPOSAL_CHOSEN or old.suite.group is not None:
        return ""
    ours = context.peer.esp_proposals
    groups = ", ".join(group.keyword for group in groups_of(ours))
    wants = f"ours asks for {groups}: does the peer's?" if groups else "ours has none: does the peer ask for a group?"
    return (
        f"; it was made in IKE_AUTH, which has no key exchange, so this is the first time that forward secrecy counts: {wants} "
        f"(esp.proposals here: {proposal.text(ours)})"
    )
