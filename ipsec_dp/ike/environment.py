"""What a session is given of the world: randomness, SPIs, the calendar, what the data plane saw. No clock: `now` is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ipsec.addresses import Address

Rng = Callable[[int], bytes]
"""Octets wanted -> that many unpredictable octets."""


class Activity(NamedTuple):
    """When ESP of a CHILD_SA was last received (its ICV held) and last sent, in the seconds of `now`; -inf: never."""

    received: float
    sent: float


NEVER = float("-inf")
SILENT = Activity(NEVER, NEVER)


@dataclass(frozen=True, slots=True)
class IncomingKey:
    """What the peer's messages are protected with: transforms by number, the encryption key's octets without salt; encryption key,
    salt and integrity key behind each other, wiped when the call is over."""

    encryption: int
    integrity: int  # 0 with an AEAD
    key_octets: int
    keymat: bytearray = field(repr=False)


class IkeSaTraits(NamedTuple):
    """By what a message of an IKE SA is known before anybody has read it. `peer_spi`: zeros until it is known."""

    own_spi: bytes
    peer_spi: bytes
    initiator: bool
    natt: bool
    authenticated: bool


class Watcher(Protocol):
    """Who looks at datagrams before they come here, so that strangers do not stand in the way of peers. Nothing may raise."""

    def known(self, traits: IkeSaTraits, key: IncomingKey | None) -> None:
        """An IKE SA is there, or is otherwise now. `key`: once its peer has proven who it is; an ISAKMP SA of IKEv1 has none."""

    def gone(self, own_spi: bytes) -> None:
        """Nothing that comes for this IKE SA means anything any more."""

    def ikev1_peer(self, address: Address, *, there: bool) -> None:
        """Tunnels that speak IKEv1 expect a peer at this address, or none any longer."""

    def cookie_secret(self, secret: bytes) -> None:
        """What cookies follow from, from now on (`strangers.Cookies`)."""


class NoWatcher:
    """Every datagram comes here."""

    def known(self, traits: IkeSaTraits, key: IncomingKey | None) -> None:
        pass

    def gone(self, own_spi: bytes) -> None:
        pass

    def ikev1_peer(self, address: Address, *, there: bool) -> None:
        pass

    def cookie_secret(self, secret: bytes) -> None:
        pass


NO_WATCHER = NoWatcher()


class Trace(Protocol):
    """Who wants a line for each message. Messages and payloads are those of the version of IKE that was met. Nothing may raise."""

    def arrived(self, datagram: bytes, path: Path) -> None:
        """A datagram is about to be handled."""

    def opened(self, message: Any) -> None:
        """Its ICV holds, and this is what was protected in it."""

    def handled(self) -> None:
        """That is over, whether it was opened or not."""

    def sealed(self, payloads: Any, datagrams: tuple[bytes, ...]) -> None:
        """Datagrams were made of these payloads."""

    def described(self, datagram: bytes, text: Callable[[], str], *, proven: bool) -> None:
        """What the datagram that is being handled is, or one of ours that is about to be sent; `proven`: it is authentic, or for
        somebody who has keys."""

    def left(self, datagram: bytes, path: Path) -> None:
        """One is about to be sent, maybe again."""


class NoTrace:
    """Nobody wants to see messages."""

    def arrived(self, datagram: bytes, path: Path) -> None:
        pass

    def opened(self, message: Any) -> None:
        pass

    def handled(self) -> None:
        pass

    def sealed(self, payloads: Any, datagrams: tuple[bytes, ...]) -> None:
        pass

    def described(self, datagram: bytes, text: Callable[[], str], *, proven: bool) -> None:
        pass

    def left(self, datagram: bytes, path: Path) -> None:
        pass


NO_TRACE = NoTrace()


class Pins(Protocol):
    """Whose peers have authenticated with IKEv2, which outlasts the gateway, until a person says otherwise."""

    def holds(self, tunnel: str) -> bool:
        """Whether the peer of a tunnel has; True too where nobody can tell, or could note it down. It does not raise."""

    def keep(self, tunnel: str) -> None:
        """It has, just now. It does not raise."""

    def clear(self, tunnel: str) -> None:
        """It is as if it never had. Raises IpsecDpError where that cannot be noted down."""


class RememberedPins:
    """In memory, for as long as it lasts."""

    def __init__(self) -> None:
        self.tunnels: set[str] = set()

    def holds(self, tunnel: str) -> bool:
        return tunnel in self.tunnels

    def keep(self, tunnel: str) -> None:
        self.tunnels.add(tunnel)

    def clear(self, tunnel: str) -> None:
        self.tunnels.discard(tunnel)


class KeyEar(Protocol):
    """Who hears of keys that a person wants to read traffic with. Nothing may raise. What only a stranger has part in is not told:
    of an IKE SA that the peer began, keys are told when he has proven who he is."""

    def ike(self, sa: Any) -> None:
        """An IKE SA of IKEv2 has these keys; maybe not for the first time."""

    def isakmp(self, sa: Any) -> None:
        """An ISAKMP SA of IKEv1 has."""


class NoKeyEar:
    """Nobody."""

    def ike(self, sa: Any) -> None:
        pass

    def isakmp(self, sa: Any) -> None:
        pass


NO_KEY_EAR = NoKeyEar()


class Interference(Protocol):
    """Who makes a gateway of a rig an odd one. Nothing may raise."""

    def refused(self, message: Any, *, child: bool) -> Any | None:
        """The notify by which a request is refused before anything is done for it; None: it is answered. `child`: what is asked
        for is the CHILD_SA of IKE_AUTH alone."""

    def ignores(self, *, hard: bool) -> bool:
        """Whether a limit that is reached, the hard one or the soft one, is passed over."""

    def keyed(self, sa: Any) -> None:
        """An IKE SA of IKEv2 has keys from now on."""

    def refused_isakmp(self, exchange: int) -> int | None:
        """The notification by which a message 1 of an exchange of IKEv1 is refused before anything is done for it; None: it is
        answered."""

    def keyed_isakmp(self, sa: Any) -> None:
        """An ISAKMP SA of IKEv1 has keys from now on."""


class NoInterference:
    """The gateway is as it is."""

    def refused(self, message: Any, *, child: bool) -> None:
        pass

    def ignores(self, *, hard: bool) -> bool:  # noqa: ARG002 - of neither
        return False

    def keyed(self, sa: Any) -> None:
        pass

    def refused_isakmp(self, exchange: int) -> None:
        pass

    def keyed_isakmp(self, sa: Any) -> None:
        pass


NO_INTERFERENCE = NoInterference()


@dataclass(frozen=True, slots=True)
class Environment:
    """`allocate_spi`: an SPI for an inbound SA of a tunnel, by its name, ≥ 256, held until an action installs or
    releases it; None when there is none left.

    `utc`: the date and time, with time zone, at `now`; for certificates. `activity`: of a CHILD_SA by its number, `SILENT` when it
    is not known; it is asked when a timer is due, not for every packet. `shaped`: the payloads that a message of ours leaves
    with, by its header and those that it would; a rig makes gateways odd by it. None of them may raise.

    `on_trial`: what is negotiated is only to show that it can be (`trial`): no peer is told to forget what it has.
    """

    rng: Rng
    allocate_spi: Callable[[str], int | None]
    utc: Callable[[float], datetime]
    activity: Callable[[int], Activity] = lambda _child: SILENT
    watcher: Watcher = NO_WATCHER
    trace: Trace = NO_TRACE
    pins: Pins = field(default_factory=RememberedPins)
    shaped: Callable[[Any, list[Any]], list[Any]] = lambda _header, payloads: payloads
    interference: Interference = NO_INTERFERENCE
    on_trial: bool = False
    keys: KeyEar = NO_KEY_EAR
