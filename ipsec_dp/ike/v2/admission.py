"""Which IKE_SA_INIT requests of strangers get an IKE SA: cookies and half-open limits (RFC 7296 §2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from ipsec_dp.ike.actions import Send
from ipsec_dp.ike.cookies import Cookies, HalfOpenSas
from ipsec_dp.ike.v2.message import Header, Message, build_message
from ipsec_dp.ike.v2.payloads import Nonce, Notify
from ipsec_dp.ike.v2.sa import NO_SPI
from ipsec_dp.ike.v2.wire import Flag, NotifyType

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Action, Path
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

    def refusal(self, request: Message, path: Path, now: float) -> tuple[str, list[Action]] | None:
        """The counter and the answer, if there is one, of a request that gets no IKE SA now; None: it may have one."""
        address = path.remote.address
        if self.half_open.full(address):
            return "refused", []
        if not self.half_open.needs_cookie(address):
            return None
        nonce, cookie, spi_i = request.get(Nonce), request.notify(NotifyType.COOKIE), request.header.spi_i
        octets = b"" if nonce is None else nonce.data
        if cookie is not None and self._cookies.good(cookie.data, octets, spi_i, path.remote, now):
            return None
        wanted = Notify(NotifyType.COOKIE, self._cookies.make(octets, spi_i, path.remote, now))
        reply = Header(spi_i, NO_SPI, request.header.exchange, Flag.RESPONSE, 0)
        return "cookies_sent", [Send(build_message(Message(reply, (wanted,))), path)]
