"""What an IKE session wants done: frozen values that only the driver carries out, in the order given.

For one CHILD_SA the order is always: `InstallInbound` (it receives), `InstallOutbound` (it could send), `SwitchOutbound` (it
sends), `RemoveOutbound` (it no longer sends), `RemoveChild` (nothing of it is left). A new CHILD_SA's inbound SA is
installed before the message leaves that lets the peer use it, so actions must not be reordered around a `Send`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from ipsec_dp.ipsec.selectors import SelectorPair
    from ipsec_dp.ipsec.suites import Suite

IKE_PORT: Final = 500
NO_SPI: Final = bytes(8)  # of an IKE SA that has none yet, or of no IKE SA
NATT_PORT: Final = 4500  # RFC 3948: IKE behind a non-ESP marker, beside ESP


class Endpoint(NamedTuple):
    """An outer UDP address; `scope` is the interface index of an IPv6 link-local address, else 0."""

    address: IPv4Address | IPv6Address
    port: int
    scope: int = 0

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Path:
    """Both ends of a datagram as we see them. `natt`: it goes or came over the port ESP uses, behind a non-ESP marker."""

    local: Endpoint
    remote: Endpoint
    natt: bool = False

    def floated(self) -> Path:
        """The same hosts on port 4500 (RFC 7296 §2.23)."""
        return replace(self, local=self.local._replace(port=NATT_PORT), remote=self.remote._replace(port=NATT_PORT), natt=True)


class Cause(StrEnum):
    """Why something ended or failed. What to do about it is the driver's: `Event.again` says when it is worth another try."""

    LOCAL = "local"  # asked for here
    PEER = "peer"  # the peer deleted it
    REPLACED = "replaced"  # another SA took its place
    LIFETIME = "lifetime"  # hard limit
    IDLE = "idle"
    TIMEOUT = "timeout"  # the peer did not answer an exchange
    LIVENESS = "liveness"  # the peer did not answer a liveness check
    AUTHENTICATION = "authentication"
    IDENTITY = "identity"
    PROPOSAL = "proposal"
    SELECTORS = "selectors"
    KEY_EXCHANGE = "key exchange"
    SYNTAX = "syntax"
    REFUSED = "refused"  # any other error notify of the peer
    RESOURCES = "resources"
    CLONED = "cloned"  # another machine has the same keys


class Kind(StrEnum):
    """What an event reports."""

    IKE_UP = "IKE SA up"
    IKE_REKEYED = "IKE SA rekeyed"  # the SPIs are those of the new one
    IKE_REAUTHENTICATED = "IKE SA authenticated again"  # the SPIs are those of the new one
    IKE_DOWN = "IKE SA down"  # after it nothing of that SA exists, no CHILD_SA either
    IKE_FAILED = "IKE SA failed"  # it never came up
    CHILD_UP = "CHILD_SA up"
    CHILD_REKEYED = "CHILD_SA rekeyed"  # `child` is the new one
    CHILD_DOWN = "CHILD_SA down"  # not replaced by another
    CHILD_FAILED = "CHILD_SA failed"
    WHOLE = "CHILD_SAs complete"  # nothing that is wanted lacks any more
    PATH = "path changed"
    NOTE = "note"  # what stood in a message and means nothing here: for whoever looks closely
    HINT = "hint"  # something unauthenticated that may explain a failure; it changes nothing
    IKEV1 = "IKEv1"
    WARNING = "warning"
    NO_UDP = "no way for UDP"  # though `encapsulation` leaves it to us: what was begun goes no further on port 4500


class Origin(StrEnum):
    """Who has caused an event. Only what is ours or an authenticated peer's may change what is wanted of a tunnel."""

    OURS = "ours"  # an IKE SA that we began
    PEER = "peer"  # an IKE SA whose peer has proven who it is
    CLAIMED = "claimed"  # unproven, from an address that the tunnel has its peer at: it may be forged
    STRANGER = "stranger"


Renewal = Literal["ours", "peer"]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a person or the driver should know. `text` is one line, printable, without any secret."""

    kind: Kind
    tunnel: str  # empty when no tunnel is known yet
    spi_i: bytes
    spi_r: bytes  # zeros before the responder named it
    exchange: str  # "IKE_SA_INIT", …; empty when none is at fault
    text: str
    cause: Cause | None = None
    child: int | None = None
    again: bool = False  # IKE_DOWN, IKE_FAILED, CHILD_DOWN, CHILD_FAILED: trying again later may help
    unspoken: bool = field(default=False, kw_only=True)  # IKE_FAILED: nothing shows that the peer speaks this version of IKE
    renewal: Renewal | None = field(default=None, kw_only=True, compare=False)  # a rekey: who asked for it; also of one that failed
    started: float | None = field(default=None, kw_only=True, compare=False)  # IKE_UP: when its first message came or left
    origin: Origin = field(kw_only=True)  # no default: whoever makes one knows whose it is

    def __str__(self) -> str:
        where = " ".join(part for part in (self.tunnel, self.exchange, f"{self.spi_i.hex()}_{self.spi_r.hex()}") if part)
        return f"{self.kind} [{where}]: {self.text}"


@dataclass(frozen=True, slots=True)
class Send:
    """One IKE message, without non-ESP marker; the driver adds four zero octets when `path.natt` (RFC 3948 §2.2)."""

    datagram: bytes = field(repr=False)
    path: Path
    whole: bool = False  # with the DF bit: nobody may fragment it


@dataclass(frozen=True, slots=True)
class SendKeepalive:
    """One octet 0xFF, so that the NAT in front of us keeps its mapping (RFC 3948 §2.3)."""

    path: Path


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Of inner octets and packets in one direction of a CHILD_SA; 0: no limit. Soft ones are jittered and differ by role."""

    soft_octets: int = 0
    hard_octets: int = 0
    soft_packets: int = 0
    hard_packets: int = 0


@dataclass(frozen=True, slots=True)
class ExpectInbound:
    """The next message names `spi`, which `Environment.allocate_spi` gave, to the peer at the end of `path`, which may send on it
    before its answer is here (RFC 7296 §2.8). `InstallInbound` or `ReleaseSpi` follows. Once more for the same SPI: the peer moved.
    """

    tunnel: str
    spi: int
    path: Path
    udp: bool  # ESP in UDP, not IP protocol 50


@dataclass(frozen=True, slots=True)
class InstallInbound:
    """Be ready to receive on `spi`, which `Environment.allocate_spi` gave. `child` names the CHILD_SA from now on.

    `keymat`: encryption key, salt, integrity key (RFC 7296 §2.17); whoever carries the action out overwrites it with zeros.
    `selectors` are negotiated and configured: nothing else may come in. `replaces`: the CHILD_SA it rekeys, None for a new one.
    `resource`: of several CHILD_SAs with the same selectors, which worker's it is, counted from the tunnel's own (RFC 9611).
    """

    tunnel: str
    child: int
    spi: int
    suite: Suite
    keymat: bytearray = field(repr=False)
    selectors: tuple[SelectorPair, ...]
    replay_window: int
    limits: ChildLimits
    path: Path
    udp: bool  # ESP in UDP, not IP protocol 50
    replaces: int | None = None
    fragments_also: bool = False  # both sides sent NON_FIRST_FRAGMENTS_ALSO (RFC 7296 §1.3.1)
    resource: int = 0


@dataclass(frozen=True, slots=True)
class InstallOutbound:
    """Prepare to send on the peer's `spi`; nothing is sent before `SwitchOutbound`. `keymat` as in `InstallInbound`."""

    tunnel: str
    child: int
    spi: int
    suite: Suite
    keymat: bytearray = field(repr=False)
    selectors: tuple[SelectorPair, ...]
    limits: ChildLimits
    path: Path
    udp: bool
    fragments_also: bool = False
    resource: int = 0


@dataclass(frozen=True, slots=True)
class SwitchOutbound:
    """Packets take `child` from now on, and no longer `replaces`. Packets held for want of an SA can be released."""

    tunnel: str
    child: int
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class RemoveOutbound:
    """End the outbound SA of `child` if it still has one; what is under way may still come in."""

    tunnel: str
    child: int


@dataclass(frozen=True, slots=True)
class RemoveChild:
    """End all that is left of `child` and wipe its keys."""

    tunnel: str
    child: int


@dataclass(frozen=True, slots=True)
class ReleaseSpi:
    """An SPI that `Environment.allocate_spi` gave is not needed: no SA came of it."""

    spi: int


@dataclass(frozen=True, slots=True)
class MovePath:
    """The peer's outer address changed, by an authenticated message (RFC 7296 §2.23): the outbound SAs of `children` follow."""

    tunnel: str
    children: tuple[int, ...]
    path: Path


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A probe of `asked` octets (`octets` as sent) arrived, or the peer answers but the probe was lost."""

    tunnel: str
    asked: int
    octets: int
    passed: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Log it, show it, act on it."""

    event: Event


Action = (
    Send
    | SendKeepalive
    | ExpectInbound
    | InstallInbound
    | InstallOutbound
    | SwitchOutbound
    | RemoveOutbound
    | RemoveChild
    | ReleaseSpi
    | MovePath
    | ProbeResult
    | Report
)
