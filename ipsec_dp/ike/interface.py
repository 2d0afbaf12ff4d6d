"""The interface between the IKE core and its driver: everything the driver calls, nothing it must know besides.

`core.IkeVersions` is the implementation. Every call returns actions, to be carried out in order and at once; none raises for
anything a peer sent. Times are seconds of one monotonic clock, SPIs of IKE SAs 8 octets, numbers of CHILD_SAs those in the actions.

What the driver does by itself: resolve names and pick the local address, retry after IKE_DOWN and IKE_FAILED (`Event.again`) with
back-off, traps for packets without an SA, sockets, and the SAD. What it never does: parse or build IKE.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from ipsec_dp.ike.post_quantum import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cryptography import x509

    from ipsec_dp.ike.actions import Action, Endpoint, Path
    from ipsec_dp.ike.effect import Effect
    from ipsec_dp.ike.nat import Why
    from ipsec_dp.ike.peer import Peer
    from ipsec_dp.ike.post_quantum import PostQuantum
    from ipsec_dp.ike.wanted import Lack
    from ipsec_dp.ipsec.selectors import SelectorPair

IkeState = Literal["negotiating", "up", "rekeying", "closing"]


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One CHILD_SA that carries traffic. `rekey_in_s` is never negative."""

    child: int
    spi_in: int
    spi_out: int
    suite: str
    esn: bool
    selectors: tuple[SelectorPair, ...]
    age_s: float
    rekey_in_s: float
    post_quantum: PostQuantum = NOTHING


class IkeStatus(NamedTuple):
    """One IKE SA. `proposal` is empty before one was agreed on. A tuple: thousands of tunnels are looked at."""

    state: IkeState
    spi_i: bytes
    spi_r: bytes
    role: Literal["initiator", "responder"]
    proposal: str
    path: Path
    nat: Literal["none", "local", "remote", "both"]
    remote_id: str
    age_s: float
    rekey_in_s: float
    children: tuple[ChildStatus, ...]
    lacking: tuple[Lack, ...] = ()  # of what is wanted, that which has no CHILD_SA
    udp: bool = False  # ESP goes in UDP
    forced: bool = False  # because the configuration says so
    silence: str | None = None  # which request of ours is not answered, and what may be the cause
    heard: float = -inf  # when the last message came whose ICV held; -inf: none yet
    version: Literal[1, 2] = 2
    vendors: tuple[str, ...] = ()  # what the peer says of itself, by name; IKEv1
    unknown_vendors: int = 0  # vendor IDs besides that nobody here knows
    post_quantum: PostQuantum = NOTHING  # its own keys, and those of CHILD_SAs that are made of it
    local_id: str = ""
    certificates: tuple[x509.Certificate, ...] = ()  # by which the peer proved itself
    fragmentation: bool = False  # both sides may send messages in fragments (RFC 7383; in IKEv1 by vendor ID)
    encapsulation_why: Why = "peer"  # ESP goes in UDP, or does not
    carries: bool = False  # a CHILD_SA of it carries traffic, whether `children` are told or not


@dataclass(frozen=True, slots=True)
class Counters:
    """Datagrams that led to nothing, by reason, and what is held; for `status` and metrics."""

    malformed: int
    ikev1: int
    unknown_spi: int
    unauthenticated: int  # the ICV did not hold
    out_of_window: int
    limited: int  # of peers whose requests have to wait (`authenticated`)
    refused: int  # IKE_SA_INIT beyond the half-open limits
    no_peer: int  # IKE_SA_INIT from where no tunnel expects anybody
    cookies_sent: int
    half_open: int
    sessions: int
    retransmissions: int = 0  # of our requests
    unfinished: int = 0  # series of additional key exchanges that a peer began and that ended before their last round


class IkeCore(Protocol):
    """All IKE SAs of one gateway."""

    def set_peers(self, peers: Iterable[Peer]) -> None:
        """The tunnels from now on. IKE SAs that exist keep what they were made with."""

    def set_peer(self, peer: Peer) -> None:
        """One tunnel from now on. IKE SAs that exist keep what they were made with."""

    def reconfigure(self, peers: Iterable[Peer], effects: Mapping[str, Effect], now: float) -> list[Action]:
        """`peers`: of the tunnels that are new or changed. `effects`: what that means for the IKE SAs of those that changed, by
        name; one that has no peer is gone. Other tunnels are not touched."""

    def judge_again(self, tunnel: str, now: float) -> list[Action]:
        """The certificates by which the peer of a tunnel has proven itself, by what the tunnel says now: CRLs that are new. The IKE
        SAs end that they do not hold for any more."""

    def fallback(self, tunnel: str, now: float) -> str | None:
        """Why a tunnel that prefers IKEv2 is up by IKEv1; None: it is not."""

    def pinned(self, tunnel: str) -> bool | None:
        """Whether a tunnel that prefers IKEv2 never falls to IKEv1, since its peer has authenticated with IKEv2 or nobody can tell;
        None: it speaks one version."""

    def unpin(self, tunnel: str) -> None:
        """The peer of a tunnel that prefers IKEv2 may be met by IKEv1 again, though it has authenticated with IKEv2. Raises
        IpsecDpError where that cannot be noted down, or the tunnel speaks one version alone."""

    def receive(self, datagram: bytes, path: Path, now: float) -> list[Action]:
        """A datagram as it came, the non-ESP marker taken off."""

    def knows(self, datagram: bytes) -> bool:
        """Whether it bears the SPI of an IKE SA that we began or whose peer has proven who it is. Nothing else is looked at."""

    def next_timeout(self) -> float | None:
        """When `timer` wants to be called, None: not at all. It may lie in the past: work on many IKE SAs is left to `timer`."""

    def timer(self, now: float) -> list[Action]:
        """A part of what is due by `now`, on a few IKE SAs; `next_timeout` says whether there is more."""

    def initiate(self, tunnel: str, path: Path, now: float, packet: SelectorPair | None = None) -> list[Action]:
        """Begin an IKE SA with its first CHILD_SA, or, where an IKE SA is up, the CHILD_SAs that lack. `path` is only the start:
        ports 500, or 4500 with `natt`. `packet`: the selectors of the packet that asks, single addresses and ports. KeyError: no
        such tunnel.
        """

    def acquire(self, tunnel: str, packet: SelectorPair, now: float) -> list[Action] | None:
        """A packet found no SA. None when no IKE SA is there or on its way, so that `initiate` is what is needed."""

    def rekey(self, tunnel: str, now: float, *, ike: bool = False) -> list[Action]:
        """Rekey every CHILD_SA of a tunnel, or its IKE SA."""

    def reauthenticate(self, tunnel: str, now: float) -> list[Action]:
        """Another IKE SA from the beginning, beside the one that a tunnel has and, once it is up, in its place (RFC 7296 §2.8.3);
        nothing where the peer is the one that calls. In IKEv1 `rekey` of the IKE SA: its CHILD_SAs follow as they are rekeyed."""

    def terminate(self, tunnel: str, now: float) -> list[Action]:
        """Delete all IKE SAs of a tunnel with all that hangs on them."""

    def leave(self, tunnel: str, now: float) -> list[Action]:
        """Ends a tunnel's IKE SAs at once, without waiting for the peer."""

    def delete_child(self, tunnel: str, child: int, now: float) -> list[Action]:
        """Delete one CHILD_SA."""

    def soft_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        """The data plane saw a CHILD_SA cross a soft limit: rekey it now."""

    def hard_limit(self, tunnel: str, child: int, now: float) -> list[Action]:
        """The data plane stopped a CHILD_SA at a hard limit or its last sequence number."""

    def peer_moved(self, tunnel: str, child: int, remote: Endpoint, now: float) -> list[Action]:
        """Authenticated ESP with the highest sequence number yet came from another outer address (RFC 7296 §2.23)."""

    def unreachable(self, message: bytes, path: Path, reason: str, now: float) -> list[Action]:
        """Somebody says that a message of ours did not get to the end of `path`, and why; `message` is what he has of it."""

    def unsent(self, datagram: bytes, why: str, now: float) -> list[Action]:
        """This host refused to send a datagram of a `Send`, and why."""

    def probe(self, tunnel: str, octets: int, first_wait: float, now: float) -> list[Action] | None:
        """Ask whether an IP datagram of `octets` reaches the peer; `ProbeResult` tells. It is repeated once, after `first_wait`
        seconds. None: there is no IKE SA, or it has something more important to do.
        """

    def check_liveness(self, tunnel: str, now: float) -> list[Action]:
        """Ask the peer of a tunnel now whether it is there, where liveness is checked at all: nothing is known of the time since
        it was last heard."""

    def close(self, now: float) -> list[Action]:
        """End everything: one DELETE for each IKE SA that is up, not repeated."""

    def forget(self, now: float) -> list[Action]:
        """This machine was cloned or restored, and its twin has the same keys: end everything without a word, wipe the keys."""

    def unfinished(self) -> bool:
        """Whether a command is not carried out on all that it is about: `timer` goes on with it, however early it is called."""

    def status(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        """The IKE SAs of a tunnel, oldest first."""

    def latest(self, tunnel: str, now: float) -> tuple[IkeStatus, ...]:
        """The last few IKE SAs of a tunnel, oldest first, none with its CHILD_SAs: enough to say how the tunnel is, however many
        peers it has."""

    def has_ike_sa(self, tunnel: str) -> bool:
        """Whether one of `latest` is not closing: the tunnel is up or under way. It costs less."""

    def rekey_in(self, child: int, now: float) -> float | None:
        """Seconds until a CHILD_SA of an IKE SA that is up is rekeyed; None: it carries no traffic."""

    def post_quantum(self, child: int) -> PostQuantum:
        """Whether the keys of a CHILD_SA, and those of the IKE SA that has it, withstand a quantum adversary."""

    def retransmissions(self, tunnel: str) -> int:
        """How often a request to the peer of a tunnel was sent once more, since the start."""

    def counters(self) -> Counters:
        """What was counted since the start."""
