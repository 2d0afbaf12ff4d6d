"""CHILD_SAs in both roles: installed, switched to, and one taking another's place (RFC 7296 §1.3, §2.8, §2.17).

TS payloads multiply (every local with every remote selector), a configuration lists pairs. What is negotiated may therefore be more
than what is configured; what is installed never is (`ts.permitted`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.ike import lifetimes, traffic_selectors
from ipsec_dp.ike.actions import Cause, InstallInbound, InstallOutbound, Kind, RemoveOutbound, SwitchOutbound
from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.errors import IkeError
from ipsec_dp.ike.suites import suite_of
from ipsec_dp.ike.traffic_selectors import selector_pairs
from ipsec_dp.ike.v2 import keymat, replacement, resources
from ipsec_dp.ike.v2.deadlines import reprieve, start_child
from ipsec_dp.ike.v2.sa import Child, ChildState
from ipsec_dp.ipsec.spi import spi_text

if TYPE_CHECKING:
    from ipsec_dp.ike import suites
    from ipsec_dp.ike.traffic_selectors import ProxyId, TrafficSelector
    from ipsec_dp.ike.v2.context import Context

MAX_OFFERED: Final = 64  # selectors of a side in one exchange; further proxy IDs get exchanges of their own
MAX_PAIRS: Final = PEER_LIMITS.selectors  # pairs of selectors that one CHILD_SA may have here


class ChildError(IkeError):
    """A response that makes no CHILD_SA."""

    def __init__(self, text: str, cause: Cause) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an exchange gives a CHILD_SA besides its selectors: Ni and Nr, who sent the request, under PFS the shared secrets of its
    key exchanges, the SA rekeyed, whether both sides want later fragments where selectors ask for ports
    (NON_FIRST_FRAGMENTS_ALSO), and the resource of one of several with the same selectors."""

    nonces: tuple[bytes, bytes]
    initiator: bool
    secrets: tuple[bytearray, ...] = ()
    rekeys: Child | None = None
    fragments_also: bool = False
    resource: int | None = None


def install(
    context: Context,
    spis: tuple[int, int],
    suite: suites.EspSuite,
    selectors: tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]],
    pairs: tuple[ProxyId, ...],
    now: float,
    agreed: Agreement,
) -> Child:
    """Derive keys and emit both installs. `spis`: ours and the peer's."""
    old, peer = agreed.rekeys, context.peer
    new = Child(
        context.host.next_child(),
        *spis,
        suite,
        agreed.initiator,
        *selectors,
        pairs,
        now,
        now if old is None else old.used,
        min(agreed.nonces),
        replaces=None if old is None else old.number,
    )
    new.post_quantum = context.sa.post_quantum.child(suite)
    context.children[new.number] = new
    context.host.holds(new)
    context.host.holdings.hold(new, peer, context.ends.theirs)
    limits = new.limits = start_child(new, peer.child_life, now, context.host.environment.rng)
    new.fragments_also, new.resource = agreed.fragments_also, agreed.resource
    resources.began(context, new, now)
    context.deadlines.failures = 0
    if not agreed.initiator and old is None:
        replacement.made_by_peer(context, now)
    ike_suite, ike_keys = context.sa.suite, context.sa.keys
    if ike_suite is None or ike_keys is None:
        raise ChildError("no IKE keys", Cause.LOCAL)
    keys = keymat.child_keys(ike_suite.prf, ike_keys.sk_d, suite, *agreed.nonces, agreed.secrets)
    from_initiator, from_responder = keys.encr_i + keys.integ_i, keys.encr_r + keys.integ_r
    outgoing, incoming = (from_initiator, from_responder) if agreed.initiator else (from_responder, from_initiator)
    keys.wipe()
    for secret in agreed.secrets:
        secret[:] = bytes(len(secret))
    esp, shown = suite_of(suite), selector_pairs(pairs)
    window, path = peer.replay_window, (context.path, context.udp)
    also, resource = agreed.fragments_also, agreed.resource or resources.FIRST
    context.emit(
        InstallInbound(
            peer.tunnel, new.number, new.spi_in, esp, incoming, shown, window, limits, *path, new.replaces, also, resource
        )
    )
    context.emit(InstallOutbound(peer.tunnel, new.number, new.spi_out, esp, outgoing, shown, limits, *path, also, resource))
    return new


def report_up(context: Context, new: Child) -> None:
    local, remote = traffic_selectors.text(new.ts_local), traffic_selectors.text(new.ts_remote)
    text = f"{spi_text(new.spi_in)} in, {spi_text(new.spi_out)} out, {new.suite}, {local} <-> {remote}"
    if new.replaces is None:
        context.report(Kind.CHILD_UP, text, child=new.number)
    else:
        context.report(Kind.CHILD_REKEYED, text, child=new.number, renewal="ours" if new.initiator else "peer")


def replaced_by(old: Child, new: Child, now: float) -> None:
    """The peer's rekey stands: it deletes `old`, and then, or at the latest soon, we send by `new`."""
    reprieve(old, now)
    if old.state is ChildState.UP:
        old.enter(ChildState.REKEYED)
        old.successor, old.soft = new, lifetimes.NEVER_DUE
    new.switch_at = now + lifetimes.SWITCH_LOOK


def switch(context: Context, new: Child) -> None:
    """Send by `new` from now on."""
    new.switch_at = new.switch_by = lifetimes.NEVER_DUE
    new.waits = False
    if new.sending or new.number not in context.children or new.state not in (ChildState.UP, ChildState.REKEYED):
        return
    new.sending = True
    old = _sending_before(context, new)
    taken = replacement.taken_over(context, new) if old is None else [old]
    context.emit(SwitchOutbound(context.peer.tunnel, new.number, taken[0].number if taken else new.replaces))
    for one in taken:
        one.sending = False
        context.emit(RemoveOutbound(context.peer.tunnel, one.number))


def switch_waiting(context: Context) -> None:
    """CHILD_SAs that let those of the IKE SA before send (`replacement`) send themselves from now on."""
    for child in list(context.children.values()):
        if child.waits:
            switch(context, child)


def _sending_before(context: Context, new: Child) -> Child | None:
    """What still sends of those that `new` takes the place of, directly or by one that never sent."""
    number = new.replaces
    while number is not None:
        old = context.children.get(number)
        if old is None or old.sending:
            return old
        number = old.replaces
    return None


def is_held(context: Context, pair: ProxyId) -> bool:
    """True when a CHILD_SA that is there to stay holds all of `pair`."""
    return any(child.state is ChildState.UP and child.holds(pair) for child in context.children.near(pair))


def by_spi_out(context: Context, spi: bytes) -> Child | None:
    """The newest CHILD_SA that sends on `spi`."""
    return context.children.by_spi_out(int.from_bytes(spi, "big"))
