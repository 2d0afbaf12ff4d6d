"""A peer that sends from another address than it is known at, where nothing says that its address may change (RFC 7296 §2.23)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Kind

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.v2.context import Context


def follow(context: Context, path: Path, now: float) -> None:
    """Something authentic came by `path`: a peer behind a NAT is gone after, of any other it is told now and then."""
    known = context.path.remote
    if context.nat.remote and not context.nat.local:
        context.move(path, now)
        return
    if path.remote.address == known.address or now < context.deadlines.elsewhere_at:
        return
    context.deadlines.elsewhere_at = now + lifetimes.ELSEWHERE_EVERY
    why = "we are behind a NAT ourselves" if context.nat.local else "no NAT was found before it"
    context.report(
        Kind.WARNING,
        f"the peer's authenticated messages come from {path.remote.address} and not from {known.address}; it is not followed, "
        f"since {why} and MOBIKE is not spoken here: what is for it still goes to {known.address}. Have it send from one address, "
        "or call anew from the other one",
    )
