"""Certificate policies along a chain, in the manner of NIST PKITS §4.8 to §4.12: chains of the shapes that it has, made here.

A row is a chain below the root, the peer's certificate last. Policies are critical throughout, as are what requires and inhibits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ObjectIdentifier

from ipsec_dp.ike import policies
from ipsec_dp.ike.certificate_rules import RuleError
from ipsec_dp.ike.certificates import CertificateError
from ipsec_dp.ike.strangers import LIMITS

from .test_certificate_rules import CA, GW, ROOT_KEY, certificate, verify

OIDS = {f"P{number}": f"2.16.840.1.101.3.2.1.48.{number}" for number in range(1, 10)} | {"any": policies.ANY_POLICY}


@dataclass(frozen=True)
class C:
    """One certificate: its policies, what it maps, requires and inhibits. `alike`: issued by itself, with another key."""

    named: str = ""
    explicit: int | None = None
    mapping: int | None = None
    no_any: int | None = None
    maps: tuple[tuple[str, str], ...] = field(default=())
    alike: bool = False

    def extensions(self) -> list[tuple[Any, bool]]:
        found: list[tuple[Any, bool]] = []
        if self.named:
            found.append((x509.CertificatePolicies([x509.PolicyInformation(oid(name), None) for name in self.named.split()]), True))
        if self.explicit is not None or self.mapping is not None:
            found.append((x509.PolicyConstraints(self.explicit, self.mapping), True))
        if self.no_any is not None:
            found.append((x509.InhibitAnyPolicy(self.no_any), True))
        if self.maps:
            found.append((x509.UnrecognizedExtension(policies.MAPPINGS, mappings(self.maps)), True))
        return found


def oid(name: str) -> ObjectIdentifier:
    return ObjectIdentifier(OIDS[name])


def der(tag: int, content: bytes) -> bytes:
    length = bytes([len(content)]) if len(content) < 128 else b"\x82" + len(content).to_bytes(2, "big")
    return bytes([tag]) + length + content


def der_oid(name: str) -> bytes:
    first, second, *others = map(int, OIDS[name].split("."))
    octets = b""
    for arc in (40 * first + second, *others):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.insert(0, arc & 0x7F | 0x80)
        octets += bytes(groups)
    return der(6, octets)


def mappings(pairs) -> bytes:
    return der(0x30, b"".join(der(0x30, der_oid(one) + der_oid(other)) for one, other in pairs))


@cache
def key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def judged(*chain: C):
    """The peer's key, or why there is none."""
    made, issuer, signer = [], "root", ROOT_KEY
    for number, row in enumerate(chain):
        last = number == len(chain) - 1
        subject = "gw" if last else issuer if row.alike else f"ca{number}"
        more = [GW] if last else [CA]
        made.append(certificate(subject, key(number).public_key(), issuer, signer, *more, *row.extensions()))
        issuer, signer = subject, key(number)
    return verify(*reversed(made))


P1, NONE = C("P1"), C()
GOOD = {
    "4.8.1 all have the same policy": [P1, P1],
    "4.8.2 none has a policy": [NONE, NONE],
    "4.8.3 different policies, none required": [P1, C("P2"), P1],
    "4.8.6 overlapping policies, one required": [C("P1 P2 P3", explicit=0), C("P1 P2"), C("P1")],
    "4.8.10 all have the same two": [C("P1 P2", explicit=0), C("P1 P2")],
    "4.8.11 anyPolicy throughout": [C("any", explicit=0), C("any")],
    "4.8.14 anyPolicy above a policy": [C("any", explicit=0), P1],
    "4.8.13 a policy above anyPolicy": [C("P1", explicit=0), C("any")],
    "4.8.20 a policy that nobody knows, not required": [C("P9")],
    "4.9.1 required after ten": [C("P1", explicit=10), NONE, NONE, NONE, NONE],
    "4.9.2 required after five": [C("P1", explicit=5), NONE, NONE, NONE, NONE],
    "4.9.4 required at once, and there": [C("P1", explicit=0), P1, P1, P1, P1],
    "4.9.6 one that issued itself does not count": [C("P1", explicit=2), C(alike=True), NONE],
    "4.10.1 mapped": [C("P1", explicit=0, maps=(("P1", "P2"),)), C("P2")],
    "4.10.3 mapped twice": [C("P1", explicit=0, maps=(("P1", "P2"),)), C("P2", maps=(("P2", "P3"),)), C("P3")],
    "4.10.5 two that are mapped to one": [C("P1 P2", explicit=0, maps=(("P1", "P3"), ("P2", "P3"))), C("P3")],
    "4.10.13 mapped beside anyPolicy": [C("any", explicit=0, maps=(("P1", "P2"),)), C("P2")],
    "4.11.2 mapped before it is inhibited": [C("P1", explicit=0, mapping=1), C("P1", maps=(("P1", "P2"),)), C("P2")],
    "4.11.7 one that issued itself does not count": [
        C("P1", explicit=0, mapping=1),
        C("P1", alike=True),
        C("P1", maps=(("P1", "P2"),)),
        C("P2"),
    ],
    "4.12.2 anyPolicy inhibited, and a policy there": [C("any", explicit=0, no_any=0), P1],
    "4.12.3 anyPolicy inhibited after one": [C("any", explicit=0, no_any=1), C("any"), P1],
    "4.12.7 one that issued itself may": [C("any", explicit=0, no_any=0), C("any", alike=True), P1],
}
BAD = {
    "4.8.4 different policies, one required": [C("P1", explicit=0), C("P2"), P1],
    "4.8.7 the last has none in common": [C("P1 P2", explicit=0), C("P1"), C("P3")],
    "4.8.8 a gap in between": [C("P1", explicit=0), C("P2"), P1],
    "4.9.3 required after four": [C("P1", explicit=4), NONE, NONE, NONE, NONE],
    "4.9.5 lowered on the way": [C("P1", explicit=7), C("P1", explicit=2), NONE, NONE],
    "4.9.7 one that issued itself in between": [C("P1", explicit=2), C(alike=True), NONE, NONE],
    "required by the last one alone": [P1, C(explicit=0)],
    "4.10.2 not what it is mapped to": [C("P1", explicit=0, maps=(("P1", "P2"),)), P1],
    "4.10.4 mapped twice, and the first target": [
        C("P1", explicit=0, maps=(("P1", "P2"),)),
        C("P2", maps=(("P2", "P3"),)),
        C("P2"),
    ],
    "4.10.7 anyPolicy is mapped": [C("P1", maps=(("any", "P1"),)), P1],
    "4.10.8 mapped to anyPolicy": [C("P1", maps=(("P1", "any"),)), P1],
    "4.11.1 inhibited at once": [C("P1", explicit=0, mapping=0), C("P1", maps=(("P1", "P2"),)), C("P2")],
    "4.11.3 inhibited after one": [
        C("P1", explicit=0, mapping=1),
        C("P1", maps=(("P1", "P2"),)),
        C("P2", maps=(("P2", "P3"),)),
        C("P3"),
    ],
    "4.12.1 anyPolicy where it is inhibited": [C("P1", explicit=0, no_any=0), C("any")],
    "4.12.4 anyPolicy one too late": [C("P1", explicit=0, no_any=1), C("any"), C("any")],
    "4.12.5 inhibited further down": [C("any", explicit=0, no_any=5), C("any", no_any=0), C("any"), C("any")],
    "4.12.10 the last one is not excused": [C("P1", explicit=0, no_any=0), C("any", alike=True), C("any")],
}


@pytest.mark.parametrize("chain", GOOD.values(), ids=GOOD)
def test_chains_whose_policies_hold(chain):
    assert judged(*chain) == key(len(chain) - 1).public_key()


@pytest.mark.parametrize("chain", BAD.values(), ids=BAD)
def test_chains_whose_policies_do_not(chain):
    with pytest.raises(CertificateError, match=r"explicit policy|maps anyPolicy"):
        judged(*chain)


def test_what_the_root_itself_says_is_not_asked():
    """RFC 5280 §6.1.1: an anchor is a name and a key."""
    root = certificate("root", ROOT_KEY.public_key(), "root", ROOT_KEY, CA, *C("P1", explicit=0).extensions())
    leaf = certificate("gw", key(0).public_key(), "root", ROOT_KEY, GW)
    policies.check_policies([leaf])
    with pytest.raises(RuleError, match="no certificate policy leads through all of it"):
        policies.check_policies([root, leaf])


def test_too_many_policies_and_one_twice_are_refused():
    many = x509.CertificatePolicies(
        [x509.PolicyInformation(ObjectIdentifier(f"1.2.3.{number}"), None) for number in range(LIMITS.policies + 1)]
    )
    with pytest.raises(CertificateError, match=f"more than {LIMITS.policies} policies"):
        verify(certificate("gw", key(0).public_key(), "root", ROOT_KEY, GW, (many, True)))
    twice = C("P1 P1")
    with pytest.raises(CertificateError, match="names a policy twice"):
        judged(twice)
    with pytest.raises(CertificateError, match=f"maps more than {LIMITS.policies} policies"):
        judged(C("P1", maps=(("P1", "P2"),) * (LIMITS.policies + 1)), P1)


def test_mappings_that_cannot_be_read_are_refused():
    sub = certificate(
        "ca0", key(0).public_key(), "root", ROOT_KEY, CA, (x509.UnrecognizedExtension(policies.MAPPINGS, b"\x30\x01"), True)
    )
    leaf = certificate("gw", key(1).public_key(), "ca0", key(0), GW)
    with pytest.raises(CertificateError, match="cannot be read"):
        verify(leaf, sub)
