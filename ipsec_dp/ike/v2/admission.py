"""Which IKE_SA_INIT requests of strangers get an IKE SA: cookies and half-open limits (RFC 7296 §2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from ipsec_dp.ike.actions import NO_SPI, Send
from ipsec_dp.ike.strangers import Cookies, HalfOpenSas
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.payloads import Nonce, Notify
from ipsec_dp.ike.v2.wire import Flag, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.environment import Rng

S = TypeVar("S")


class Admission(Generic[S]):
    """What strangers have cost so far, and what each must show."""

    def __init__(self, rng: Rng) -> None:
        self.half_open: HalfOpenSas[S] = HalfOpenSas()
        self._rng = rng
        self._cookies = Cookies(rng)

    def renew(self) -> None:
        """No cookie that was given is good any more."""
        self._cookies = Cookies(self._rng)

    @property
    def cookie_secret(self) -> bytes:
        """What cookies follow from now."""
        return self._cookies.secret

    def demand(self, request: Message, path: Path, now: float) -> Send | None:
        """The COOKIE that a request without a good one gets in the place of an IKE SA; None: it may have one."""
        if self.returned(request, path, now) or not self.half_open.needs_cookie(path.remote.address, now):
            return None
        spi_i = request.header.spi_i
        wanted = Notify(NotifyType.COOKIE, self._cookies.make(_nonce(request), spi_i, path.remote, now))
        reply = Header(spi_i, NO_SPI, request.header.exchange, Flag.RESPONSE, 0)
        return Send(build_message(Message(reply, (wanted,))), path)

    def returned(self, request: Message, path: Path, now: float) -> bool:
        """True when a request brings back a cookie that went to its address: somebody receives there."""
        cookie = request.notify(NotifyType.COOKIE)
        return cookie is not None and self._cookies.good(cookie.data, _nonce(request), request.header.spi_i, path.remote, now)


def _nonce(request: Message) -> bytes:
    nonce = request.get(Nonce)
    return b"" if nonce is None else nonce.data
