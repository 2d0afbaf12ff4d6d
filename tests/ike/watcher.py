"""Who looks at datagrams before the core does, as tests have him: he notes what he is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import IkeSaTraits, IncomingKey
    from ipsec_dp.ipsec.addresses import Address


@dataclass
class NotingWatcher:
    """`ike.environment.Watcher`. `keys` as they were during the call, by our own SPI; `given` as they are now."""

    known_now: dict[bytes, IkeSaTraits] = field(default_factory=dict)
    keys: dict[bytes, bytes] = field(default_factory=dict)
    given: list[IncomingKey] = field(default_factory=list)
    calls: int = 0
    secrets: list[bytes] = field(default_factory=list)
    ikev1_peers: set[Address] = field(default_factory=set)

    def known(self, traits: IkeSaTraits, key: IncomingKey | None) -> None:
        assert key is None or traits.authenticated
        assert traits != self.known_now.get(traits.own_spi), "told twice"
        self.calls += 1
        self.known_now[traits.own_spi] = traits
        if key is not None:
            self.keys[traits.own_spi] = bytes(key.keymat)
            self.given.append(key)

    def gone(self, own_spi: bytes) -> None:
        self.calls += 1
        del self.known_now[own_spi]

    def ikev1_peer(self, address: Address, *, there: bool) -> None:
        if there:
            self.ikev1_peers.add(address)
        else:
            self.ikev1_peers.remove(address)

    def cookie_secret(self, secret: bytes) -> None:
        self.secrets.append(secret)
