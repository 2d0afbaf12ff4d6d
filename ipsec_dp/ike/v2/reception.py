"""Tells whoever looks at datagrams first which IKE SAs there are, so that a flood of strangers stands in no peer's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.environment import NO_KEY_EAR, IkeSaTraits, IncomingKey

if TYPE_CHECKING:
    from ipsec_dp.ike.environment import KeyEar, Watcher
    from ipsec_dp.ike.v2.context import Context
    from ipsec_dp.ike.v2.sa import IkeSa


class Reception:
    """Of all IKE SAs: what was told of each, so that only what is new is told."""

    def __init__(self, watcher: Watcher, keys: KeyEar = NO_KEY_EAR) -> None:
        self._watcher, self._keys = watcher, keys
        self._told: dict[bytes, IkeSaTraits] = {}

    def note(self, context: Context) -> None:
        """An IKE SA has done something."""
        sa = context.sa
        own, peer = (sa.spi_i, sa.spi_r) if sa.initiator else (sa.spi_r, sa.spi_i)
        traits = IkeSaTraits(own, peer, sa.initiator, context.path.natt, context.authenticated)
        if self._told.get(own) == traits:
            return
        key = _incoming_key(sa) if traits.authenticated else None
        if traits.authenticated and key is None:  # closed, and its keys are wiped: it stays as it was told
            return
        self._told[own] = traits
        self._watcher.known(traits, key)
        if key is not None:
            self._keys.ike(sa)
            key.keymat[:] = bytes(len(key.keymat))

    def gone(self, context: Context) -> None:
        """It is closed."""
        if self._told.pop(context.sa.own_spi, None) is not None:
            self._watcher.gone(context.sa.own_spi)


def _incoming_key(sa: IkeSa) -> IncomingKey | None:
    """Of the direction that the peer sends in (RFC 7296 §2.14)."""
    suite, keys = sa.suite, sa.keys
    if suite is None or keys is None:
        return None
    keymat = keys.sk_er + keys.sk_ar if sa.initiator else keys.sk_ei + keys.sk_ai
    integrity = 0 if suite.integrity is None else suite.integrity.id
    return IncomingKey(suite.encryption.id, integrity, suite.encryption.key, keymat)
