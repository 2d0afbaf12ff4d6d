"""Where the ISAKMP SAs of one gateway are found: by cookies, by the message 1 that began them, calls of ours by tunnel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.v1.states import IsakmpState
from ipsec_dp.ike.v1.wire import COOKIE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.actions import Endpoint
    from ipsec_dp.ike.v1.context import IsakmpContext

BEGUN: Final = frozenset({IsakmpState.SA_SENT, IsakmpState.AGGRESSIVE_SENT})  # by us, and the peer has not answered


class IsakmpIndex:
    """Of one gateway. What is with a peer is found in `peering_index`."""

    def __init__(self) -> None:
        self._by_cookie: dict[bytes, IsakmpContext] = {}  # ours
        self._by_request: dict[tuple[bytes, Endpoint], IsakmpContext] = {}  # of messages 1 that we answered
        self._calls: dict[str, dict[IsakmpContext, None]] = {}

    def __len__(self) -> int:
        return len(self._by_cookie)

    def __contains__(self, own_cookie: bytes) -> bool:
        return own_cookie in self._by_cookie

    def alone(self) -> list[IsakmpContext]:
        """Those that are with no peer yet."""
        return [session for session in self._by_cookie.values() if session.peering is None]

    def find(self, cookie_i: bytes, cookie_r: bytes) -> IsakmpContext | None:
        """Whose both cookies are; the responder's is not known before the first answer."""
        for own in (cookie_r, cookie_i):
            session = self._by_cookie.get(own)
            if session is not None and session.sa.cookie_i == cookie_i:
                other = session.sa.cookie_r
                if other == cookie_r or session.state in BEGUN:
                    return session
        return None

    def of_datagram(self, datagram: bytes) -> IsakmpContext | None:
        """The same, by a header that may end early."""
        return self.find(datagram[:COOKIE], datagram[COOKIE : 2 * COOKIE])

    def by_request(self, key: tuple[bytes, Endpoint]) -> IsakmpContext | None:
        """That which a message 1 from there, with this initiator's cookie, has begun."""
        return self._by_request.get(key)

    def calls(self, tunnel: str) -> tuple[IsakmpContext, ...]:
        """Main and aggressive modes of ours that are not up, oldest first."""
        return tuple(self._calls.get(tunnel, ()))

    @property
    def called(self) -> tuple[str, ...]:
        """The tunnels whose peers were called."""
        return tuple(self._calls)

    def add(self, session: IsakmpContext) -> None:
        self._by_cookie[session.sa.own_cookie] = session

    def add_requests(self, sessions: Iterable[IsakmpContext]) -> None:
        """A repeat of message 1 finds them."""
        self._by_request |= {session.request_key: session for session in sessions}

    def add_call(self, session: IsakmpContext) -> None:
        self._calls.setdefault(session.peer.tunnel, {})[session] = None

    def discard_call(self, session: IsakmpContext) -> bool:
        """It is up, or has ended; whether it was a call until now."""
        return self._calls.get(session.peer.tunnel, {}).pop(session, session) is None

    def take_calls(self, tunnel: str) -> tuple[IsakmpContext, ...]:
        """Those that are there, which are calls of the tunnel no more."""
        return tuple(self._calls.pop(tunnel, ()))

    def drop(self, session: IsakmpContext) -> None:
        """It is closed; no cookie and no message 1 finds it."""
        if self._by_cookie.get(session.sa.own_cookie) is session:
            del self._by_cookie[session.sa.own_cookie]
        if self._by_request.get(session.request_key) is session:
            del self._by_request[session.request_key]
