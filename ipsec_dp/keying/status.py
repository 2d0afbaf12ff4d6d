"""What `status` says of where a tunnel's SAs come from, IKE or keys set by hand."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, Literal, Self

import msgspec

if TYPE_CHECKING:
    from ipsec_dp.ike.post_quantum import PostQuantum

Encapsulation = Literal["udp", "esp"]
RenewalTrigger = Literal["operator", "monitor", "volume"]
EncapsulationReason = Literal["configured", "nat", "auto", "peer", "shared", "fallback"]

# Of IP protocol 50, beside ESP in UDP.
COSTS: Final = "which costs throughput (no segmentation offloads: a fifth to a third of what UDP carries)"


class PostQuantumStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the keys of an IKE SA and of a CHILD_SA withstand a quantum adversary who records today: "mlkem768" or "mlkem1024"
    by a key exchange of its own, "ppk", "inherited" from an IKE SA whose do, or "none"."""

    ike: str = "none"
    child: str = "none"

    @classmethod
    @cache  # of few words
    def of(cls, found: PostQuantum) -> Self:
        return cls(ike=found.ike, child=found.child)


class IkeSaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The IKE SA that is up. Every field has a default, so that an answer of another version can be shown too.

    `post_quantum`: of its own keys, and of those of CHILD_SAs that are made of it.
    `vendors`: what an IKEv1 peer says of itself by its vendor IDs; `unknown_vendors`: how many of them nobody here knows.
    """

    spi_i: str = ""
    spi_r: str = ""
    role: str = ""
    proposal: str = ""
    age_s: float | None = None
    rekey_in_s: float | None = None
    remote_id: str = ""
    version: int = 2
    fallback: str | None = None  # why it is this one, where the configuration prefers another
    vendors: tuple[str, ...] = ()
    unknown_vendors: int = 0
    post_quantum: PostQuantumStatus = PostQuantumStatus()


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What happened since the gateway started: calls of ours; what came to nothing, calls and peers' alike; how often it was up and
    then was not, though nobody here wanted that; requests that were sent once more."""

    attempts: int = 0
    failures: int = 0
    flaps: int = 0
    retransmissions: int = 0


class KeyingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One tunnel. `up_at`: when it last came up, `came_up_at`: when that began which lasts, `heard_at`: when the last IKE message
    came from its peer; -inf: never, or not by IKE. `silent`: a request to the peer is not answered. `remote_in_dns`: whether the
    peer's address is one that its names in `remote` mean; None: it has no names, or no address yet. `pinned`: to IKEv2, though it
    might fall to IKEv1; None: it never might."""

    state: str
    state_text: str
    remote: str
    last_error: str | None = None
    nat: str = "none"
    ike: IkeSaStatus | None = None
    remote_in_dns: bool | None = None
    up_at: float = float("-inf")
    came_up_at: float = float("-inf")
    encapsulation: Encapsulation | None = None
    encapsulation_why: EncapsulationReason | None = None
    silent: bool = False
    heard_at: float = float("-inf")
    tally: Tally = Tally()
    pinned: bool | None = None
