"""COOKIEs and half-open limits: what a gateway spends on somebody who has shown nothing yet (RFC 7296 §2.6, RFC 8019 §4)."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.constant_time import bytes_eq

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Endpoint
    from ipsec_dp.ike.environment import Rng

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
        if now >= self._renew_at:
            self._renew_at = now + SECRET_LIFE
            self._secrets = [self._rng(_SECRET), self._secrets[0]]
        return self._cookie(self._secrets[0], nonce, spi_i, remote)

    def good(self, cookie: bytes, nonce: bytes, spi_i: bytes, remote: Endpoint) -> bool:
        """True when `cookie` is one of ours, made for the same."""
        return any(bytes_eq(self._cookie(secret, nonce, spi_i, remote), cookie) for secret in self._secrets)

    @staticmethod
    def _cookie(secret: bytes, nonce: bytes, spi_i: bytes, remote: Endpoint) -> bytes:
        parts = (nonce, spi_i, remote.address.packed)
        return hmac.digest(secret, b"".join(len(part).to_bytes(2, "big") + part for part in parts), hashlib.sha256)


def needs_cookie(half_open: int, of_address: int) -> bool:
    """True when a request must show that its source address is real before it costs us anything."""
    return half_open >= COOKIE_ABOVE or of_address >= COOKIE_ABOVE_ADDRESS


def full(half_open: int, of_address: int) -> bool:
    """True when not even a cookie helps."""
    return half_open >= MAX_HALF_OPEN or of_address >= MAX_ADDRESS
