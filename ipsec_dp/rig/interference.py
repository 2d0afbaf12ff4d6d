"""What makes a gateway in memory an odd one: what it refuses, which limits it passes over; and the keys of its IKE SAs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from ipsec_dp.rig.wireshark import ike_line

if TYPE_CHECKING:
    from ipsec_dp.ike.v2.message import Message
    from ipsec_dp.ike.v2.payloads import Notify
    from ipsec_dp.ike.v2.sa import IkeSa

Refuser = Callable[["Message", bool], "Notify | None"]
"""The notify by which a request is refused, by its message and whether only the CHILD_SA of IKE_AUTH is meant; None: it is not."""


class SiteInterference:
    """`ipsec_dp.ike.environment.Interference`. `refusers`: the newest decides; `ignored`: how many want hard (True) or soft limits
    passed over; `ears` hear of each that is; `keys`: lines of Wireshark's `ikev2_decryption_table`."""

    def __init__(self) -> None:
        self.refusers: list[Refuser] = []
        self.ignored: Counter[bool] = Counter()
        self.ears: list[Callable[[bool], None]] = []
        self.keys: list[str] = []

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
