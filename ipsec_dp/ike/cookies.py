"""COOKIEs and half-open limits: what a gateway spends on somebody who has shown nothing yet (RFC 7296 §2.6, RFC 8019 §4)."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cryptography.hazmat.primitives.constant_time import bytes_eq

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.actions import Endpoint
    from ipsec_dp.ike.environment import Rng
    from ipsec_dp.ipsec.addresses import Address

COOKIE_ABOVE: Final = 30  # half-open IKE SAs in all: beyond it every request needs a cookie
COOKIE_ABOVE_ADDRESS: Final = 5  # of one address
MAX_ADDRESS: Final = 1000  # of one address that has shown that it is there: many tunnels may come from one
MAX_HALF_OPEN: Final = 4000  # in all, some 10 KB each
SECRET_LIFE: Final = 60.0  # seconds; the one before is still taken, so a cookie is good for one to two of these
_SECRET: Final = 32


class Cookies:
    """Makes cookies and knows its own again, without keeping any."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._secrets = [rng(_SECRET), rng(_SECRET)]
        self._renew_at = 0.0

    def make(self, nonce: bytes, spi_i: bytes, remote: Endpoint, now: float) -> bytes:
        """The cookie that a request with this nonce and SPI, from there, must bring back."""
        self._renew(now)
        return self._cookie(self._secrets[0], nonce, spi_i, remote)

    def good(self, cookie: bytes, nonce: bytes, spi_i: bytes, remote: Endpoint, now: float) -> bool:
        """True when `cookie` is one of ours, made for the same, and not too old: a host may have been asleep since."""
        self._renew(now)
        return any(bytes_eq(self._cookie(secret, nonce, spi_i, remote), cookie) for secret in self._secrets)

    def _renew(self, now: float) -> None:
        """Secrets live for SECRET_LIFE, and are taken for as long again."""
        if now >= self._renew_at:
            before = self._secrets[0] if now < self._renew_at + SECRET_LIFE else self._rng(_SECRET)
            self._secrets = [self._rng(_SECRET), before]
            self._renew_at = now + SECRET_LIFE

    @staticmethod
    def _cookie(secret: bytes, nonce: bytes, spi_i: bytes, remote: Endpoint) -> bytes:
        parts = (nonce, spi_i, remote.address.packed)
        return hmac.digest(secret, b"".join(len(part).to_bytes(2, "big") + part for part in parts), hashlib.sha256)


S = TypeVar("S")


class HalfOpenSas(Generic[S]):
    """IKE SAs that a stranger may have made us hold, counted by the address that each came from."""

    def __init__(self) -> None:
        self._address_of: dict[S, Address] = {}
        self._counts: Counter[Address] = Counter()

    def __len__(self) -> int:
        return len(self._address_of)

    def __iter__(self) -> Iterator[S]:
        return iter(self._address_of)

    def add(self, sa: S, address: Address) -> None:
        self._address_of[sa] = address
        self._counts[address] += 1

    def discard(self, sa: S) -> None:
        """It is authenticated or gone."""
        address = self._address_of.pop(sa, None)
        if address is not None:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]

    def any_from(self, address: Address) -> bool:
        """True when somebody at this address, or who says so, has begun one."""
        return self._counts[address] > 0

    def needs_cookie(self, address: Address) -> bool:
        """True when a request must show that its source address is real before it costs us anything."""
        return len(self) >= COOKIE_ABOVE or self._counts[address] >= COOKIE_ABOVE_ADDRESS

    def full(self, address: Address) -> bool:
        """True when not even a cookie helps."""
        return len(self) >= MAX_HALF_OPEN or self._counts[address] >= MAX_ADDRESS
