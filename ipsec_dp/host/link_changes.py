"""Which interfaces changed while a gateway runs: rtnetlink's reports about links and addresses, by the interface's number."""

from __future__ import annotations

from ipsec_dp.host.bulk import U32
from ipsec_dp.host.changes import ADDRESSES, AT_ONCE, LINKS, RouteReports
from ipsec_dp.host.requests import messages

GROUPS = 0x1 | 0x10 | 0x100  # links; IPv4 and IPv6 addresses
INDEX_AT = 4  # of struct ifinfomsg and of struct ifaddrmsg


class LinkChangesSocket(RouteReports):
    """Changes of links and addresses."""

    def __init__(self) -> None:
        super().__init__(GROUPS)

    def read(self) -> set[int] | None:
        """The interfaces that were reported since the last call, or by the first part of it: then the socket can still be read.

        None: reports were lost, so it may be any.
        """
        found: set[int] = set()
        lost = False
        for data in self._received(AT_ONCE):
            if data is None:
                lost = True
                continue
            for kind, _, _, at, end in messages(data):
                if kind in LINKS + ADDRESSES and at + INDEX_AT + U32.size <= min(end, len(data)):
                    found.add(U32.unpack_from(data, at + INDEX_AT)[0])
        return None if lost else found
