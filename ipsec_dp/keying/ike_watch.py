"""The data plane as the one who looks at IKE datagrams first: it is told of each IKE SA, and keeps strangers apart from peers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ipsec_dp.dataplane import IkeRates, IkeSaKey
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.util.told import told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.dataplane import DataPlane
    from ipsec_dp.ike.environment import IkeSaTraits, IncomingKey
    from ipsec_dp.ike.strangers import Limits
    from ipsec_dp.ipsec.addresses import Address, AddressRange

log = logging.getLogger(__name__)


def ike_rates(limits: Limits) -> IkeRates:
    """What a data plane lets through of strangers."""
    return IkeRates(
        begin=limits.begun_a_second,
        other=limits.others_a_second,
        ikev1=limits.ikev1_begun_a_second,
        ikev1_at_once=limits.ikev1_begun_at_once,
        ikev1_in_all=limits.ikev1_begun_a_second_in_all,
        isakmp=limits.ikev1_known_a_second,
        proven=limits.proven_a_second,
        proven_at_once=limits.proven_at_once,
        proven_in_all=limits.proven_a_second_in_all,
        repeats=limits.old_a_second,
        repeats_at_once=limits.old_at_once,
        cookies=limits.cookies_a_second,
        cookies_on_nat_port=limits.cookies_a_second_on_nat_port,
        first_cookies=limits.first_cookies_a_second,
        cookie_seen_seconds=limits.asked_seconds,
        cookie_seconds=round(limits.cookie_seconds),
    )


class IkeWatch:
    """`ike.environment.Watcher` by the data plane. What it does not take is treated like a stranger's there, and works here."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def known(self, traits: IkeSaTraits, key: IncomingKey | None) -> None:
        shown = None if key is None else IkeSaKey(key.encryption, key.integrity, key.key_octets, key.keymat)
        isakmp = traits.authenticated and key is None
        try:
            self._plane.set_ike_sa(*traits[:2], initiator=traits.initiator, nat_port=traits.natt, key=shown, isakmp=isakmp)
        except DataPlaneError as error:
            log.debug("IKE SA %s: %s", traits.own_spi.hex(), error, extra=told("gate_failed"))

    def gone(self, own_spi: bytes) -> None:
        try:
            self._plane.remove_ike_sa(own_spi)
        except DataPlaneError as error:
            log.debug("IKE SA %s: %s", own_spi.hex(), error, extra=told("gate_failed"))

    def ikev1_peer(self, address: Address, *, there: bool) -> None:
        try:
            self._plane.set_ikev1_peer(address, there=there)
        except DataPlaneError as error:
            log.debug("the peer with IKEv1 at %s: %s", address, error, extra=told("gate_failed"))

    def silent_towards(self, ranges: Iterable[AddressRange]) -> None:
        """Nobody there is asked for a cookie by the data plane, whatever the load: the answer would leave beside a tunnel."""
        try:
            self._plane.set_quiet(ranges)
        except DataPlaneError as error:
            log.error("%s", error, extra=told("gate_failed"))

    def cookie_secret(self, secret: bytes) -> None:
        try:
            self._plane.set_cookie_secret(secret)
        except DataPlaneError as error:
            log.warning("cookies are made by the control plane alone: %s", error, extra=told("cookies_apart"))
