"""What makes a gateway in memory an odd one: what it refuses, which limits it passes over; and the keys of its IKE SAs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ipsec_dp.keying.wireshark import ikev1_line
from ipsec_dp.rig.wireshark import ike_line

if TYPE_CHECKING:
    from ipsec_dp.ike.v1.sa import IsakmpSa
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.payloads import Notify
    from ipsec_dp.ike.v2.sa import IkeSa

Refuser = Callable[["Message", bool], "Notify | None"]
"""The notify by which a request is refused, by its message and whether only the CHILD_SA of IKE_AUTH is meant; None: it is not."""


IsakmpRefuser = Callable[[int], "int | None"]
"""The same of message 1 of an exchange of IKEv1, by its number: the notification's."""


class SiteInterference:
    """`ipsec_dp.ike.environment.Interference`. `refusers`: the newest decides; `ignored`: how many want hard (True) or soft limits
    passed over; `ears` hear of each that is; `keys`, `isakmp_keys`: lines of Wireshark's tables of either version."""

    def __init__(self) -> None:
        self.refusers: list[Refuser] = []
        self.isakmp_refusers: list[IsakmpRefuser] = []
        self.ignored: Counter[bool] = Counter()
        self.ears: list[Callable[[bool], None]] = []
        self.keys: list[str] = []
        self.isakmp_keys: list[str] = []

    def refused(self, message: Message, *, child: bool) -> Notify | None:
        notifies = (refuser(message, child) for refuser in reversed(self.refusers))
        return next((notify for notify in notifies if notify is not None), None)

    def ignores(self, *, hard: bool) -> bool:
        if not self.ignored[hard]:
            return False
        for ear in tuple(self.ears):
            ear(hard)
        return True

    def keyed(self, sa: IkeSa) -> None:
        line = ike_line(sa)
        if line is not None:
            self.keys.append(line)

    def refused_isakmp(self, exchange: int) -> int | None:
        codes = (refuser(exchange) for refuser in reversed(self.isakmp_refusers))
        return next((code for code in codes if code is not None), None)

    def keyed_isakmp(self, sa: IsakmpSa) -> None:
        line = ikev1_line(sa)
        if line is not None:
            self.isakmp_keys.append(line)
