"""What a session has to know of its peer, frozen, made from one tunnel of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from ipsec_dp.ike.auth import PreSharedKey
    from ipsec_dp.ike.certificates import Credential, Trust
    from ipsec_dp.ike.identity import Identity
    from ipsec_dp.ike.post_quantum import Demand
    from ipsec_dp.ike.ppk import Ppk, PpkUse
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.traffic_selectors import ProxyId
    from ipsec_dp.ipsec.addresses import Address

Start = Literal["start", "on-demand", "respond"]
Encapsulation = Literal["auto", "udp", "esp"]
Version = Literal[1, 2]
Mode = Literal["main", "aggressive"]
LivenessAction = Literal["restart", "trap", "clear"]

NAT_KEEPALIVE: Final = 20.0  # seconds (RFC 3948 §4)
DEFAULT_DATAGRAM: Final = 1280  # octets with IP header: the IPv6 minimum MTU (RFC 7383 §2.5.1), and strongSwan's default


class Unique(StrEnum):
    """What a further IKE SA between the same two identities means for those that are there."""

    REPLACE = "replace"  # it takes their place
    KEEP = "keep"  # it is refused while they live
    NEVER = "never"  # nothing: any number may stand side by side


@dataclass(frozen=True, slots=True)
class SharedKeyAuth:
    """Both sides prove that they know `key`."""

    key: PreSharedKey

    def asks_the_same(self, other: SharedKeyAuth | SignatureAuth) -> bool:
        """True when what proves itself to one proves itself to the other."""
        return isinstance(other, SharedKeyAuth) and self.key.is_same(other.key)


@dataclass(frozen=True, slots=True)
class SignatureAuth:
    """Both sides sign. `sha1`: the classic RSA method may use SHA-1, as some older peers do (off by default)."""

    credential: Credential
    trust: Trust
    sha1: bool = False

    def asks_the_same(self, other: SharedKeyAuth | SignatureAuth) -> bool:
        """True when what proves itself to one proves itself to the other."""
        return isinstance(other, SignatureAuth) and (self.trust, self.sha1) == (other.trust, other.sha1)


@dataclass(frozen=True, slots=True)
class Life:
    """Of an SA. `hard_s`: seconds until it ends. `soft_s`: seconds until it is rekeyed, None: by the margins of `ike.lifetimes`.

    Octets and packets are hard limits of one direction of a CHILD_SA; 0: no limit. `idle_s`: a CHILD_SA without inner packets for
    that long is deleted; 0: never.
    """

    hard_s: float
    soft_s: float | None = None
    octets: int = 0
    packets: int = 0
    idle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Liveness:
    """Ask a peer that was silent for `interval_s` (0: never); it is dead after `retries` retransmissions without an answer."""

    interval_s: float = 10.0
    retries: int = 5
    action: LivenessAction = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One tunnel's peer. `local` None: any address of ours. `remotes` empty: it may come from anywhere. `named`: so it
    may too, and `remotes` are what its DNS names are known to mean. `remote_id` None: the address it has; `local_id` None: ours.

    `fail_over`: it has further addresses, or may be met by another version, so that a call without an answer is given up early.
    `reauth_s`: seconds after which the peers authenticate anew, 0: never. `natt_first`: start on port 4500. `datagram`: octets of
    IP datagram beyond which messages are sent in fragments (RFC 7383). `version`: of IKE, both as initiator and as responder;
    `mode`: of phase 1 in IKEv1, in both roles.

    `fallback`: the same peer by IKEv1, to which the tunnel may fall; `remotes` are then its only addresses, wherever it may come
    from by IKEv2. `places`: how many addresses and names there are to call. `ppks`: the one that RFC 8784 names first.
    `by_default`: nobody has chosen `ike_proposals`. `resources`: CHILD_SAs with the same selectors that there may be, one for each
    worker (RFC 9611); 1: nothing of it is said.
    """

    tunnel: str
    auth: SharedKeyAuth | SignatureAuth
    ike_proposals: tuple[Proposal, ...]
    esp_proposals: tuple[Proposal, ...]
    proxy_ids: tuple[ProxyId, ...]
    local: Address | None = None
    remotes: tuple[Address, ...] = ()
    named: bool = False
    local_id: Identity | None = None
    remote_id: Identity | None = None
    ike_life: Life = field(default=Life(8 * 3600.0))
    child_life: Life = field(default=Life(3600.0))
    liveness: Liveness = field(default=Liveness())
    start: Start = "on-demand"
    encapsulation: Encapsulation = "auto"
    unique: Unique = Unique.REPLACE
    reauth_s: float = 0.0
    replay_window: int = 1024
    natt_first: bool = False
    fail_over: bool = False
    datagram: int = DEFAULT_DATAGRAM
    version: Version = 2
    fallback: Peer | None = None
    places: int = 1
    mode: Mode = "main"
    ppks: tuple[Ppk, ...] = ()
    ppk: PpkUse = "required"
    post_quantum: Demand = "preferred"
    by_default: bool = False
    resources: int = 1

    @property
    def needs_ppk(self) -> bool:
        """Whether there is no IKE SA without one of its PPKs."""
        return bool(self.ppks) and self.ppk == "required"
