"""The messages of IKEv1 of somebody who has proven nothing, each payload at its largest, as rows of `benchmarks.strangers`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from random import Random
from typing import TYPE_CHECKING

from benchmarks.strangers_hub import sent
from benchmarks.strangers_isakmp_hub import (
    LIFE,
    NOBODY,
    AggressiveHub,
    IsakmpHub,
    clear,
    first_of,
    garbage,
    header,
    offer,
    sealed,
    suite_of,
)
from benchmarks.strangers_messages import CHAINS, IDENTITIES, MESSAGE_MOST, NAME, PAYLOADS_MOST, Kind, chain
from ipsec_dp.ike import dh
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v1 import offers, registry
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.message import build_isakmp
from ipsec_dp.ike.v1.sa_payload import SaAttribute, SaPayload, SaProposal, SaTransform
from ipsec_dp.ike.v1.vendors import FRAGMENTATION
from ipsec_dp.ike.v1.wire import KEY_IKE, ExchangeMode, Method, NotifyCode, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.actions import Path
    from ipsec_dp.ike.v1.payloads import IsakmpPayload

GROUPS = ("ecp256", "ecp384", "ecp521", "modp2048", "modp3072", "modp4096")


# ---- payloads at their largest -------------------------------------------------------------------------------------------------


def _transforms(proposals: int, each: int, attributes: int = 0) -> SaPayload:
    """Proposals of transforms that nobody has."""
    values = tuple(SaAttribute.of(4000 + at, 1 << 40) for at in range(attributes))
    made = tuple(SaTransform(1 + at % 255, KEY_IKE, (SaAttribute.of(1, 900 + at), *values)) for at in range(each))
    return SaPayload(tuple(SaProposal(number, Protocol.ISAKMP, b"", made) for number in range(1, 1 + proposals)))


def _known(number: int) -> SaPayload:
    """Transforms of algorithms that there are, none of which fits."""
    (suite,) = registry.suites_phase1(parse_ike(["aes192-sha512-ecp521"]))
    (one,) = offers.phase1_offer((suite,), Method.RSA, LIFE).proposals
    return SaPayload((replace(one, transforms=tuple(replace(one.transforms[0], number=1 + at) for at in range(number))),))


OFFERS: dict[str, SaPayload] = {
    "60 transforms, none fits": _known(60),
    "64 proposals of 8 transforms": _transforms(64, 8),
    "2 proposals of 250 transforms": _transforms(2, 250),
    "80 transforms, 4 KB": _transforms(1, 80, 2),
    "8 transforms of 60 attributes": _transforms(1, 8, 60),
}
LARGEST: dict[str, tuple[IsakmpPayload, ...]] = {
    "60 KB of vendor IDs": tuple(p.VendorIdPayload(bytes(500)) for _ in range(PAYLOADS_MOST)),
    "4 KB of vendor IDs": tuple(p.VendorIdPayload(bytes(28)) for _ in range(PAYLOADS_MOST)),
    "120 empty payloads": tuple(p.VendorIdPayload(b"") for _ in range(PAYLOADS_MOST)),
    "120 notifications": tuple(p.NotificationPayload(1, 40_000, bytes(16)) for _ in range(PAYLOADS_MOST)),
    "60 KB in a notification": (p.NotificationPayload(1, 40_000, b"", bytes(60_000)),),
    "60 KB of an authority": (p.CertRequestPayload(4, bytes(60_000)),),
    "100 certificates": tuple(p.CertPayload(4, bytes(600)) for _ in range(100)),
    "DELETEs of 15,000 SPIs": tuple(p.DeletePayload(3, (b"spis",) * 1000) for _ in range(15)),
    "120 NAT-Ds": tuple(p.NatDPayload(bytes(32)) for _ in range(PAYLOADS_MOST - 2)),
    "60 KB of a signature": (p.SignaturePayload(bytes(60_000)),),
}
SIGNATURE = p.SignaturePayload(bytes(63) + b"\1")
BY_NAME = p.IdPayload(NAME[0], 0, 0, NAME[1])
PROVES_NOTHING = {"60 KB of a signature": ""}  # two signatures are no message


# ---- message 1, and what is of no ISAKMP SA ------------------------------------------------------------------------------------


def _begin(hub: IsakmpHub, payloads: tuple[IsakmpPayload, ...]) -> tuple[bytes, Path]:
    return first_of(hub, *payloads), hub.path()


def _repeated(hub: IsakmpHub) -> tuple[bytes, Path]:
    message, path = _begin(hub, (offer(),))
    hub.core.receive(message, path, hub.now)
    return message, path


def _aggressive(hub: IsakmpHub, payloads: tuple[IsakmpPayload, ...]) -> tuple[bytes, Path]:
    return clear((hub.random(8), NOBODY), *payloads, exchange=4), hub.path()


def _of_none(hub: IsakmpHub, exchange: int, octets: int) -> tuple[bytes, Path]:
    return build_isakmp(header((hub.random(8), hub.random(8)), exchange), 8, hub.random(octets)), hub.path()


def _firsts() -> Iterator[Kind]:
    for keyword in GROUPS:
        for method in (Method.SHARED_KEY, Method.ECDSA_P256):
            yield Kind(f"message 1, {keyword}, {method.name}", partial(_begin, payloads=(offer(keyword, method),)), tunnels=2)
    for text, sa in OFFERS.items():
        yield Kind(f"message 1, {text}", partial(_begin, payloads=(sa,)))
    for text, payloads in LARGEST.items():
        yield Kind(f"message 1, {text}", partial(_begin, payloads=(offer(), *payloads)), tunnels=2)
    yield Kind("message 1, without SA", partial(_begin, payloads=(p.NoncePayload(bytes(256)),)))
    yield Kind("message 1, repeated", _repeated)
    for exchange in (1, ExchangeMode.MAIN, 4, ExchangeMode.INFORMATIONAL, 6, ExchangeMode.QUICK):
        yield Kind(f"exchange {int(exchange)} of no ISAKMP SA, 64 KB", partial(_of_none, exchange=exchange, octets=MESSAGE_MOST))
    aggressive = (offer(), p.KePayload(bytes(64)), p.NoncePayload(bytes(32)), BY_NAME)
    yield Kind(
        "aggressive mode, which no tunnel speaks", lambda hub: (clear((hub.random(8), NOBODY), *aggressive, exchange=4), hub.path())
    )


# ---- message 3: a key exchange -------------------------------------------------------------------------------------------------


def _third(
    hub: IsakmpHub, keyword: str, public: bytes, payloads: tuple[IsakmpPayload, ...] = (), method: int = Method.ECDSA_P256
) -> tuple[bytes, Path]:
    begun, path = _begin(hub, (offer(keyword, method),))
    hub.now += 1.0
    cookies = begun[:8], hub.ask(path)(begun)[8:16]
    return clear(cookies, p.KePayload(public), p.NoncePayload(bytes(256)), *payloads), path


def _thirds() -> Iterator[Kind]:
    for keyword in GROUPS:
        group = suite_of(keyword).group
        key = dh.initiate(group, Random(2).randbytes)
        for method in (Method.SHARED_KEY, Method.ECDSA_P256):
            third = partial(_third, keyword=keyword, public=key.public, method=method)
            yield Kind(f"message 3, {keyword}, {method.name}", third, tunnels=2)
        yield Kind(f"message 3, {keyword}, unfit value", partial(_third, keyword=keyword, public=bytes(group.public)), tunnels=2)
    key = dh.initiate(suite_of("ecp256").group, Random(2).randbytes)
    usual = partial(_third, keyword="ecp256", public=key.public)
    for text, payloads in LARGEST.items():
        yield Kind(f"message 3, {text}", partial(usual, payloads=payloads), tunnels=2)
    yield Kind("message 3, a KE value of 60 KB", partial(_third, keyword="ecp256", public=bytes(60_000)), tunnels=2)


# ---- message 5: who is who -----------------------------------------------------------------------------------------------------


def _fifth(hub: IsakmpHub, payloads: tuple[IsakmpPayload, ...], exchange: int = ExchangeMode.MAIN) -> tuple[bytes, Path]:
    hub.now += 1.0
    return sealed(hub.with_keys(), *payloads, exchange=exchange, number=0 if exchange == ExchangeMode.MAIN else 77)


def _unreadable(hub: IsakmpHub, method: int, octets: int) -> tuple[bytes, Path]:
    hub.now += 1.0
    made = hub.with_keys(method=method)
    return garbage(made.cookies, octets, ExchangeMode.MAIN, 0, hub.random), made.path


def certificates(kind: str) -> tuple[IsakmpPayload, ...]:
    """A chain of `strangers_messages`."""
    return tuple(p.CertPayload(4, one.data) for one in chain(kind))


def _fifths() -> Iterator[Kind]:
    for text, (kind, octets) in IDENTITIES.items():
        yield Kind(
            f"message 5, {text}", partial(_fifth, payloads=(p.IdPayload(kind, 0, 0, octets), SIGNATURE)), "did not prove", tunnels=2
        )
    for text, payloads in LARGEST.items():
        yield Kind(
            f"message 5, {text}",
            partial(_fifth, payloads=(BY_NAME, SIGNATURE, *payloads)),
            PROVES_NOTHING.get(text, "did not prove"),
            tunnels=2,
        )
    for chain_of in (*CHAINS, "borrowed"):
        yield Kind(f"message 5, certificates, {chain_of}", partial(_chain, kind=chain_of), "did not prove", tunnels=2)
    for method in (Method.SHARED_KEY, Method.ECDSA_P256):
        for size in (64, 60_000):
            make = partial(_unreadable, method=method, octets=size)
            yield Kind(f"message 5, {size} octets that mean nothing, {method.name}", make, tunnels=2)
    for exchange in (ExchangeMode.INFORMATIONAL, ExchangeMode.QUICK):
        early = partial(_fifth, payloads=LARGEST["60 KB of a signature"], exchange=exchange)
        yield Kind(f"{exchange.name} before message 5", early, tunnels=2)


def _chain(hub: IsakmpHub, kind: str) -> tuple[bytes, Path]:
    return _fifth(hub, (BY_NAME, *certificates(kind), SIGNATURE))


# ---- answers of a stranger to ours ---------------------------------------------------------------------------------------------


def _second(hub: IsakmpHub, payloads: tuple[IsakmpPayload, ...], exchange: int = ExchangeMode.MAIN) -> tuple[bytes, Path]:
    begun, path = hub.calls("w0")
    return clear((begun[:8], hub.random(8)), *payloads, exchange=exchange), path


def _fourth(hub: IsakmpHub, payloads: tuple[IsakmpPayload, ...]) -> tuple[bytes, Path]:
    third, path, _ = hub.called_until_4("w0")
    return clear((third[:8], third[8:16]), *payloads), path


def _sixth(hub: IsakmpHub, payloads: tuple[IsakmpPayload, ...]) -> tuple[bytes, Path]:
    return sealed(hub.called_until_6("w1"), *payloads)


def _sixth_of(hub: IsakmpHub, kind: str) -> tuple[bytes, Path]:
    return _sixth(hub, (BY_NAME, *certificates(kind), SIGNATURE))


def _sixth_unreadable(hub: IsakmpHub, exchange: int) -> tuple[bytes, Path]:
    made = hub.called_until_6("w0")
    return garbage(made.cookies, 60_000, exchange, 0 if exchange == ExchangeMode.MAIN else 77, hub.random), made.path


def _answers() -> Iterator[Kind]:
    refusals = tuple(p.NotificationPayload(1, NotifyCode.NO_PROPOSAL_CHOSEN, b"", bytes(400)) for _ in range(PAYLOADS_MOST))
    yield Kind("answer to message 1, 120 refusals", partial(_second, payloads=refusals, exchange=ExchangeMode.INFORMATIONAL))
    for text, sa in OFFERS.items():
        yield Kind(f"answer to message 1, {text}", partial(_second, payloads=(sa,)))
    key, nonce = dh.initiate(suite_of("ecp256").group, Random(2).randbytes), p.NoncePayload(bytes(256))
    for text, payloads in LARGEST.items():
        yield Kind(f"answer to message 3, {text}", partial(_fourth, payloads=(p.KePayload(key.public), nonce, *payloads)))
    yield Kind("answer to message 3, an unfit value", partial(_fourth, payloads=(p.KePayload(bytes(64)), nonce)))
    for kind in (*CHAINS, "borrowed"):
        yield Kind(f"answer to message 5, certificates, {kind}", partial(_sixth_of, kind=kind), tunnels=2)
    for text, payloads in LARGEST.items():
        yield Kind(
            f"answer to message 5, {text}",
            partial(_sixth, payloads=(BY_NAME, SIGNATURE, *payloads)[: PAYLOADS_MOST + 2]),
            tunnels=2,
        )
    for exchange in (ExchangeMode.MAIN, ExchangeMode.INFORMATIONAL):
        yield Kind(f"answer to message 5, {exchange.name} that means nothing", partial(_sixth_unreadable, exchange=exchange))


# ---- aggressive mode -----------------------------------------------------------------------------------------------------------


def _aggressive_first(
    hub: IsakmpHub, keyword: str, method: int, public: bytes, further: tuple[IsakmpPayload, ...]
) -> tuple[bytes, Path]:
    hub.now += 1.0
    return _aggressive(hub, (offer(keyword, method), p.KePayload(public), p.NoncePayload(bytes(256)), BY_NAME, *further))


def _aggressive_third(hub: IsakmpHub, octets: int) -> tuple[bytes, Path]:
    """What cannot be opened, behind a message 1 that was answered; where none was, behind one of nobody's."""
    hub.now += 1.0
    begun, path = _aggressive_first(hub, "ecp256", Method.ECDSA_P256, _public("ecp256"), ())
    answers = sent(hub.core.receive(begun, path, hub.now))
    cookies = begun[:8], answers[0][8:16] if answers else hub.random(8)
    return garbage(cookies, octets, ExchangeMode.AGGRESSIVE, 0, hub.random), path


def _aggressive_second(hub: IsakmpHub, payloads: tuple[IsakmpPayload, ...]) -> tuple[bytes, Path]:
    return _second(hub, payloads, exchange=ExchangeMode.AGGRESSIVE)


@cache
def _public(keyword: str) -> bytes:
    return dh.initiate(suite_of(keyword).group, Random(2).randbytes).public


def _aggressives() -> Iterator[Kind]:
    for keyword in GROUPS:
        for method in (Method.SHARED_KEY, Method.ECDSA_P256):
            first = partial(_aggressive_first, keyword=keyword, method=method, public=_public(keyword), further=())
            yield Kind(f"aggressive message 1, {keyword}, {method.name}", first, tunnels=2)
    usual = partial(_aggressive_first, keyword="ecp256", method=Method.ECDSA_P256)
    yield Kind("aggressive message 1, an unfit value", partial(usual, public=bytes(64), further=()), tunnels=2)
    for text, payloads in LARGEST.items():
        yield Kind(f"aggressive message 1, {text}", partial(usual, public=_public("ecp256"), further=payloads), tunnels=2)
    for octets in (64, 60_000):
        yield Kind(f"aggressive message 3, {octets} octets that mean nothing", partial(_aggressive_third, octets=octets), tunnels=2)
    answer = (offer(), p.KePayload(_public("ecp256")), p.NoncePayload(bytes(256)), BY_NAME)
    for text, payloads in LARGEST.items():
        yield Kind(f"answer to aggressive message 1, {text}", partial(_aggressive_second, payloads=(*answer, SIGNATURE, *payloads)))
    for kind in (*CHAINS, "borrowed"):
        chain_of = partial(_aggressive_second, payloads=(*answer, *certificates(kind), SIGNATURE))
        yield Kind(f"answer to aggressive message 1, certificates, {kind}", chain_of)


# ---- fragments -----------------------------------------------------------------------------------------------------------------


def _fragment(hub: IsakmpHub, number: int, octets: int, *, last: bool = False) -> tuple[bytes, Path]:
    """Of a message 3 that is never whole, or that says nothing."""
    hub.now += 1.0
    begun, path = _begin(hub, (offer(), p.VendorIdPayload(FRAGMENTATION.octets)))
    cookies = begun[:8], hub.ask(path)(begun)[8:16]
    return clear(cookies, p.FragmentPayload(1, number, last, hub.random(octets))), path


def _fragments() -> Iterator[Kind]:
    for octets in (1, 1200, 60_000):
        yield Kind(f"fragment 1, {octets} octets", partial(_fragment, number=1, octets=octets), tunnels=2)
        yield Kind(f"fragment 1 and last, {octets} octets", partial(_fragment, number=1, octets=octets, last=True), tunnels=2)
    yield Kind(
        "the last fragment that there may be", partial(_fragment, number=LIMITS.fragments, octets=1200, last=True), tunnels=2
    )


# ---- in the name of a peer that is up ------------------------------------------------------------------------------------------


def _in_its_name(hub: IsakmpHub, exchange: int, octets: int) -> tuple[bytes, Path]:
    cookies, path = hub.up()
    return garbage(cookies, octets, exchange, 1 + int.from_bytes(hub.random(3), "big"), hub.random), path


def _in_its_name_in_clear(hub: IsakmpHub, payloads: tuple[IsakmpPayload, ...]) -> tuple[bytes, Path]:
    cookies, path = hub.up()
    return clear(cookies, *payloads, exchange=ExchangeMode.INFORMATIONAL), path


def _of_peers() -> Iterator[Kind]:
    for exchange in (ExchangeMode.MAIN, ExchangeMode.INFORMATIONAL, 6, ExchangeMode.QUICK):
        for octets in (64, 60_000):
            make = partial(_in_its_name, exchange=exchange, octets=octets)
            yield Kind(f"exchange {int(exchange)} with the cookies of one that is up, {octets} octets", make)
    yield Kind(
        "DELETEs in clear with the cookies of one that is up",
        partial(_in_its_name_in_clear, payloads=LARGEST["DELETEs of 15,000 SPIs"]),
    )


def isakmp_kinds() -> Iterator[Kind]:
    """All of them, named as IKEv1's."""
    for kinds in (_firsts, _thirds, _fifths, _answers, _of_peers):
        for kind in kinds():
            yield replace(kind, name=f"IKEv1, {kind.name}", hub=IsakmpHub)
    for kind in _fragments():
        yield replace(kind, name=f"IKEv1, {kind.name}", hub=IsakmpHub)
    for kind in _aggressives():
        yield replace(kind, name=f"IKEv1, {kind.name}", hub=AggressiveHub)
