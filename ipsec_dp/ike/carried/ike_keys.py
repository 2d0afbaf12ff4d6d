"""An IKE SA of IKEv2 with its keys, out of the model; of one that cannot be no key stays."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from ipsec_dp.ike.actions import NO_SPI
from ipsec_dp.ike.carried import model as m
from ipsec_dp.ike.carried import values as v
from ipsec_dp.ike.post_quantum import IkeProtection
from ipsec_dp.ike.v2.followup import SerialTask
from ipsec_dp.ike.v2.keymat import IkeKeys
from ipsec_dp.ike.v2.protect import protection
from ipsec_dp.ike.v2.sa import IkeSa, State
from ipsec_dp.ike.v2.sk_iv import SkIvs
from ipsec_dp.ike.v2.wire import IKE_SPI
from ipsec_dp.util.wiping import unless_whole

if TYPE_CHECKING:
    from ipsec_dp.ike.suites import IkeSuite
    from ipsec_dp.ike.v2.session import IkeSession


def ike_sa_of(part: m.IkeSaPart) -> IkeSa:
    """With copies of its keys. Raises one of UNSOUND, and none of them is left."""
    if len(part.spi_i) != IKE_SPI or len(part.spi_r) != IKE_SPI or NO_SPI in (part.spi_i, part.spi_r):
        raise ValueError("an IKE SA without its SPIs")
    sa = IkeSa(initiator=part.initiator, spi_i=part.spi_i, spi_r=part.spi_r)
    sa.suite, sa.lowest_nonce = v.ike_suite_of(part.suite), part.lowest_nonce
    sa.post_quantum = IkeProtection(v.withstands_of(part.own_quantum), v.withstands_of(part.seed_quantum))
    with unless_whole(sa.wipe):
        _give_keys(sa, sa.suite, part)
    return sa


def _give_keys(sa: IkeSa, suite: IkeSuite, part: m.IkeSaPart) -> None:
    if part.keys is not None and part.sk_iv is not None:
        _check_keys(suite, part.keys)
        keys = IkeKeys(**{one.name: getattr(part.keys, one.name)[:] for one in fields(IkeKeys)})
        sa.install(suite, keys)
        if sa.outgoing is not None:
            first = part.sk_iv.next if isinstance(part.sk_iv, m.Exact) else part.sk_iv.begins
            sa.outgoing.ivs = SkIvs(first, part.sk_iv.epoch)
            sa.outgoing.ivs.reservations = part.sk_iv.serial
    elif part.kept is not None:
        sa.kept = part.kept.encryption[:], part.kept.integrity[:]
        sa.incoming = protection(suite, *sa.kept)
    elif State(part.state) is not State.LINGERING:
        raise ValueError("an IKE SA without keys")


def wipe_session(session: IkeSession) -> None:
    """Whatever it has of keys: its own, and the secrets of series that are under way."""
    session.sa.wipe()
    ours = (*session.queue.waiting(), *(() if session.task is None else (session.task,)))
    for series in (*session.series.values(), *(one.series for one in ours if isinstance(one, SerialTask))):
        if series is not None:
            series.wipe()
    session.window.wipe()


def _check_keys(suite: IkeSuite, keys: m.KeysPart) -> None:
    """Each as long as its algorithm wants it."""
    encryption, integrity = suite.encryption, 0 if suite.integrity is None else suite.integrity.key
    sizes = {"sk_e": encryption.key + encryption.salt, "sk_a": integrity, "sk_d": suite.prf.octets, "sk_p": suite.prf.octets}
    for name in keys.__struct_fields__:
        if len(getattr(keys, name)) != sizes[name[:4]]:
            raise ValueError("a key that is too long or too short")
