"""Where the IKE SAs of one gateway are found: by SPI, by the request that began them, by tunnel, by identities."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipsec_dp.ike.actions import Endpoint
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.session import IkeSession

K = TypeVar("K")


class SessionIndex:
    """Each finds its own at once, however many there are. A session of a stranger belongs to no tunnel and has no identity."""

    def __init__(self) -> None:
        self._by_spi: dict[bytes, IkeSession] = {}
        self._by_request: dict[tuple[bytes, Endpoint], IkeSession] = {}  # of IKE_SA_INIT requests we answered
        self._of_tunnel: defaultdict[str, dict[IkeSession, None]] = defaultdict(dict)
        self._of_ends: defaultdict[object, dict[IkeSession, None]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._by_spi)

    def __contains__(self, own_spi: bytes) -> bool:
        return own_spi in self._by_spi

    @property
    def empty(self) -> bool:
        """True when nothing is held under any key."""
        return not (self._by_spi or self._by_request or any(self._of_tunnel.values()) or any(self._of_ends.values()))

    def all(self) -> tuple[IkeSession, ...]:
        """Oldest first."""
        return tuple(self._by_spi.values())

    def by_tunnel(self) -> tuple[IkeSession, ...]:
        """The sessions `of_tunnel`, of one tunnel after the other."""
        return tuple(session for held in self._of_tunnel.values() for session in held)

    def get(self, own_spi: bytes) -> IkeSession | None:
        return self._by_spi.get(own_spi)

    def by_request(self, key: tuple[bytes, Endpoint]) -> IkeSession | None:
        """That which a request from there, with this initiator's SPI, has begun."""
        return self._by_request.get(key)

    def of_tunnel(self, tunnel: str) -> tuple[IkeSession, ...]:
        """Those that we began and those whose peer has authenticated itself, oldest first."""
        return tuple(self._of_tunnel.get(tunnel, ()))

    def newest_of_tunnel(self, tunnel: str) -> Iterator[IkeSession]:
        """The same, newest first, one by one."""
        return reversed(self._of_tunnel.get(tunnel, {}))

    def of_ends(self, session: Context) -> Iterable[IkeSession]:
        """Those between the same two identities, itself too, once they are proven."""
        return self._of_ends.get(session.ends.meaning(), ())

    def add_stranger(self, session: IkeSession) -> None:
        """One that a request of somebody unknown has begun."""
        self._by_spi[session.sa.own_spi] = session
        self._by_request[session.handshake.request_key] = session

    def add(self, session: IkeSession) -> None:
        """One of ours, or one that has just been authenticated."""
        self._by_spi[session.sa.own_spi] = session
        self._of_tunnel[session.peer.tunnel][session] = None
        if session.authenticated:
            self._of_ends[session.ends.meaning()][session] = None

    def drop(self, session: IkeSession) -> None:
        """It is closed."""
        self._by_spi.pop(session.sa.own_spi, None)
        if self._by_request.get(session.handshake.request_key) is session:
            del self._by_request[session.handshake.request_key]
        _take_out(self._of_tunnel, session.peer.tunnel, session)
        _take_out(self._of_ends, session.ends.meaning(), session)


def _take_out(index: defaultdict[K, dict[IkeSession, None]], key: K, session: IkeSession) -> None:
    if key in index:
        index[key].pop(session, None)
        if not index[key]:
            del index[key]
