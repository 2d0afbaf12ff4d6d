"""What the search for costly messages varies: a message as a list of genes, each a payload with its sizes, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.strangers_messages import CHAINS, FQDN, IDENTITIES, NAME, chain, chain_key, dn, selectors
from ipsec_dp.ike import dh
from ipsec_dp.ike.identity import IdType
from ipsec_dp.ike.proposal import Proposal, parse_ike
from ipsec_dp.ike.traffic_selectors import TrafficSelector
from ipsec_dp.ike.v2 import payloads as p
from ipsec_dp.ike.v2.wire import ExchangeType
from ipsec_dp.ipsec.transforms import GROUPS, Transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

Gene = dict[str, Any]
Genome = dict[str, Any]

CARRIERS: Final = ("init", "auth", "answer to init", "answer to auth")
EXCHANGES: Final = (
    ExchangeType.IKE_AUTH,
    ExchangeType.CREATE_CHILD_SA,
    ExchangeType.INFORMATIONAL,
    ExchangeType.IKE_INTERMEDIATE,
    ExchangeType.IKE_FOLLOWUP_KE,
)
KNOWN: Final = ("aes128gcm16-prfsha256-x25519", "aes256-sha512-prfsha512-ecp521", "aes128gcm16-prfsha384-modp4096-modp3072-ecp256")
PREFIXES: Final = ("10.{}.0.0/16", "10.200.{}.0/24", "10.{}.1.0/24", "0.0.0.0/0")
PUBLIC: Final = {group.id: dh.initiate(group, lambda octets: bytes(range(1, octets + 1))).public for group in GROUPS}
METHODS: Final = (1, 2, 9, 10, 11, 14, 0)  # 0: as the holder of the certificate would
_OIDS: Final = ("06092a864886f70d01010b0500", "06092a864886f70d01010d0500", "06082a8648ce3d040304", "06032b6570")


def _proposals(gene: Gene) -> tuple[Proposal, ...]:
    unknown = tuple((1 + at, bytes(gene["octets"] % 64)) for at in range(gene["attributes"] % 9))
    made = tuple(Transform(1 + at % 5, 200 + at % 1000, None, unknown) for at in range(gene["transforms"] % 255))
    known = parse_ike([KNOWN[gene["known"] % len(KNOWN)]])[0].transforms
    both = {0: made, 1: known, 2: made + known, 3: known + made}[gene["order"] % 4] or known
    protocol, count = 1 if gene["protocol"] % 4 else 3, max(gene["count"] % 80, 1)
    return tuple(Proposal(number, protocol, b"", both[:255]) for number in range(1, 1 + count))


def _selectors(gene: Gene) -> tuple[TrafficSelector, ...]:
    count = max(gene["count"] % 256, 1)
    return selectors(count, PREFIXES[gene["prefix"] % len(PREFIXES)], gene["protocol"] % 3 * 6)


def _identity(gene: Gene) -> tuple[int, bytes]:
    length = max(gene["octets"], 1)
    made: dict[int, Callable[[], tuple[int, bytes]]] = {
        0: lambda: FQDN,
        1: lambda: NAME,
        2: lambda: (IdType.DER_ASN1_DN, dn(length % 1100, 1 + gene["each"] % 100)),
        3: lambda: (IdType.FQDN, (b"a." * length)[:length] + b"a"),
        4: lambda: (IdType.RFC822_ADDR, b"!" * length + b"@" + b"a." * (gene["each"] % 500) + b"a"),
        5: lambda: (IdType.KEY_ID, bytes(length)),
        6: lambda: tuple(IDENTITIES.values())[gene["each"] % len(IDENTITIES)],
    }
    return made[gene["kind"] % len(made)]()


def _proof(gene: Gene) -> p.Authentication:
    method, length = METHODS[gene["method"] % len(METHODS)], max(gene["octets"] % 4096, 1)
    if method != 14:
        return p.Authentication(method, bytes(length - 1) + b"\2")
    algorithm = bytes.fromhex(_OIDS[gene["kind"] % len(_OIDS)])
    sequence = bytes([0x30, len(algorithm)]) + algorithm
    return p.Authentication(14, bytes([len(sequence)]) + sequence + bytes(length - 1) + b"\2")


def _certificates(gene: Gene) -> tuple[p.Payload, ...]:
    names = (*CHAINS, "borrowed")
    whole = chain(names[gene["kind"] % len(names)])
    at = gene["start"] % len(whole)
    return (*whole[at:], *whole[:at])[: max(gene["count"] % 8, 1)]


def key_of(gene: Gene) -> Any:
    """Of the first certificate that such a gene makes; None where nobody can have it."""
    names = (*CHAINS, "borrowed")
    return chain_key(names[gene["kind"] % len(names)]) if gene["start"] % 6 == 0 else None


def _key_exchange(gene: Gene) -> p.KeyExchangePayload:
    group = GROUPS[gene["group"] % len(GROUPS)]
    fit = gene["fit"] % 3
    public = PUBLIC[group.id] if fit else bytes(max(gene["octets"], 1) if fit == 0 and gene["octets"] % 2 else group.public)
    return p.KeyExchangePayload(group.id, public)


# A payload of each kind, and the numbers that it is made of with a largest value each.
PAYLOADS: Final[dict[str, tuple[Callable[[Gene], tuple[p.Payload, ...]], dict[str, int]]]] = {
    "SA": (
        lambda g: (p.SecurityAssociation(_proposals(g)),),
        {"count": 80, "transforms": 255, "attributes": 9, "octets": 64, "known": 3, "order": 4, "protocol": 4},
    ),
    "KE": (lambda g: (_key_exchange(g),), {"group": len(GROUPS), "fit": 3, "octets": 60_000}),
    "Nonce": (lambda g: (p.Nonce(bytes(16 + g["octets"] % 241)),), {"octets": 241}),
    "Notify": (
        lambda g: (p.Notify(g["type"], bytes(g["octets"])),) * max(g["count"], 1),
        {"type": 65_535, "octets": 3_000, "count": 120},
    ),
    "IDi": (lambda g: (p.IdentificationInitiator(*_identity(g)),), {"kind": 7, "octets": 1_200, "each": 500}),
    "IDr": (lambda g: (p.IdentificationResponder(*_identity(g)),), {"kind": 7, "octets": 1_200, "each": 500}),
    "CERT": (_certificates, {"kind": len(CHAINS) + 1, "start": 6, "count": 8}),
    "junk": (lambda g: (p.Certificate(g["encoding"], bytes(g["octets"] + 1)),), {"encoding": 14, "octets": 30_000}),
    "CERTREQ": (lambda g: (p.CertificateRequest(4, bytes(20 * g["count"])),), {"count": 3_000}),
    "AUTH": (lambda g: (_proof(g),), {"method": 7, "octets": 4_096, "kind": 4}),
    "TSi": (lambda g: (p.TrafficSelectorsInitiator(_selectors(g)),), {"count": 256, "prefix": 4, "protocol": 3}),
    "TSr": (lambda g: (p.TrafficSelectorsResponder(_selectors(g)),), {"count": 256, "prefix": 4, "protocol": 3}),
    "Delete": (
        lambda g: (p.Delete(3, tuple(at.to_bytes(4, "big") for at in range(g["count"]))),),
        {"count": 1_100},
    ),
    "Vendor": (lambda g: (p.VendorId(bytes(g["octets"])),) * max(g["count"], 1), {"octets": 3_000, "count": 120}),
    "CP": (
        lambda g: (p.Configuration(1, tuple((at, bytes(g["octets"])) for at in range(g["count"]))),),
        {"count": 260, "octets": 200},
    ),
    "EAP": (lambda g: (p.Eap(2, 1, bytes(g["octets"] + 1)),), {"octets": 60_000}),
}
USUAL: Final = {"init": ("SA", "KE", "Nonce"), "auth": ("IDi", "CERT", "AUTH", "SA", "TSi", "TSr")}
FIELDS: Final = {"carrier": len(CARRIERS), "exchange": len(EXCHANGES), "room": 65_000, "flip": 65_000}


def payloads(genome: Genome) -> tuple[p.Payload, ...]:
    """What the genes say."""
    return tuple(payload for gene in genome["genes"] for payload in PAYLOADS[gene["payload"]][0](gene))


def _number(rng: Random, most: int) -> int:
    return rng.choice((0, 1, 2, most - 1, most // 2, rng.randrange(most)))


def gene(rng: Random, kind: str) -> Gene:
    return {"payload": kind} | {field: _number(rng, most) for field, most in PAYLOADS[kind][1].items()}


def genome(rng: Random) -> Genome:
    """A message that is well formed as far as it goes."""
    carrier = CARRIERS[rng.randrange(len(CARRIERS))]
    kinds = USUAL["init" if carrier.endswith("init") else "auth"]
    return {"carrier": carrier, "exchange": 0, "room": 65_000, "flip": 0, "genes": [gene(rng, kind) for kind in kinds]}


def varied(rng: Random, one: Genome, other: Genome) -> Genome:
    """A child of two: some payloads of each, and one to four changes."""
    made = one | {"genes": [dict(each) for each in one["genes"]]}
    if rng.random() < 0.3:
        cut = rng.randrange(len(made["genes"]) + 1)
        made["genes"] = made["genes"][:cut] + [dict(each) for each in other["genes"][cut:]]
    for _ in range(rng.randint(1, 4)):
        _vary(rng, made)
    return made


def _vary(rng: Random, made: Genome) -> None:
    genes: list[Gene] = made["genes"]
    what = rng.random()
    if what < 0.55 and genes:
        each = rng.choice(genes)
        field, most = rng.choice(tuple(PAYLOADS[each["payload"]][1].items()))
        before = each[field]
        each[field] = rng.choice((_number(rng, most), min(before * 2, most - 1), before // 2, min(before + 1, most - 1)))
    elif what < 0.7:
        genes.insert(rng.randrange(len(genes) + 1), gene(rng, rng.choice(tuple(PAYLOADS))))
    elif what < 0.8 and len(genes) > 1:
        genes.pop(rng.randrange(len(genes)))
    elif what < 0.88 and len(genes) > 1:
        rng.shuffle(genes)
    else:
        field = rng.choice(tuple(FIELDS))
        value = _number(rng, FIELDS[field])
        made[field] = CARRIERS[value % len(CARRIERS)] if field == "carrier" else value
