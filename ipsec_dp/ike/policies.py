"""Certificate policies along a chain (RFC 5280 §6.1, with the levels of RFC 9618, whose number does not explode).

The initial set is any-policy, and nothing is required or inhibited at first: policies decide only where a certificate of the chain
asks for it (policyConstraints), and what is critical about them is heeded. With that set a chain holds as long as some policy leads
through all of it, so the nodes of one level are all that need be kept.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ObjectIdentifier
from cryptography.x509.verification import Criticality, ExtensionPolicy

from ipsec_dp.ike.certificate_rules import RuleError
from ipsec_dp.ike.distinguished_names import tlv
from ipsec_dp.ike.strangers import LIMITS

ANY_POLICY: Final = "2.5.29.32.0"
MAPPINGS: Final = ObjectIdentifier("2.5.29.33")


class _PolicyMappings(x509.ExtensionType):
    """Of which the library has no class."""

    oid = MAPPINGS


def admitted() -> ExtensionPolicy:
    """A verifier's policy that leaves the extensions of policies to `check_policies`."""
    policy = ExtensionPolicy.permit_all()
    for extension in (x509.CertificatePolicies, x509.PolicyConstraints, x509.InhibitAnyPolicy, _PolicyMappings):
        policy = policy.may_be_present(extension, Criticality.AGNOSTIC, None)
    return policy


@asn1.sequence
class _Mapping:
    issuer: ObjectIdentifier
    subject: ObjectIdentifier


@asn1.sequence
class _MappingsHolder:
    pairs: list[_Mapping]


@dataclass(frozen=True, slots=True)
class Policies:
    """What one certificate says. `named` None: no certificatePolicies; numbers None: not there."""

    named: frozenset[str] | None
    mapped: dict[str, set[str]]
    require_explicit: int | None
    inhibit_mapping: int | None
    inhibit_any: int | None
    self_issued: bool


def policies_of(certificate: x509.Certificate) -> Policies:
    """RuleError for too many, or for what stands twice. ValueError for what cannot be read."""
    named: frozenset[str] | None = None
    mapped: dict[str, set[str]] = {}
    explicit = mapping = inhibit_any = None
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.CertificatePolicies):
            named = _named(value)
        elif isinstance(value, x509.PolicyConstraints):
            explicit, mapping = value.require_explicit_policy, value.inhibit_policy_mapping
        elif isinstance(value, x509.InhibitAnyPolicy):
            inhibit_any = value.skip_certs
        elif extension.oid == MAPPINGS and isinstance(value, x509.UnrecognizedExtension):
            mapped = _mapped(value.value)
    return Policies(named, mapped, explicit, mapping, inhibit_any, certificate.subject == certificate.issuer)


def _named(value: x509.CertificatePolicies) -> frozenset[str]:
    found = [one.policy_identifier.dotted_string for one in value]
    if len(found) > LIMITS.policies:
        raise RuleError(f"a certificate with more than {LIMITS.policies} policies")
    if len(set(found)) != len(found):  # RFC 5280 §4.2.1.4
        raise RuleError("a certificate that names a policy twice")
    return frozenset(found)


def _mapped(octets: bytes) -> dict[str, set[str]]:
    pairs = asn1.decode_der(_MappingsHolder, tlv(b"\x30", octets)).pairs
    if len(pairs) > LIMITS.policies:
        raise RuleError(f"a CA certificate that maps more than {LIMITS.policies} policies")
    found: dict[str, set[str]] = {}
    for pair in pairs:
        found.setdefault(pair.issuer.dotted_string, set()).add(pair.subject.dotted_string)
    if ANY_POLICY in found or any(ANY_POLICY in subjects for subjects in found.values()):  # RFC 5280 §6.1.4 (a)
        raise RuleError("a CA certificate that maps anyPolicy")
    return found


class _Walk:
    """`nodes`: of the present level, each valid policy with the policies that are expected below it; none: the graph is NULL."""

    def __init__(self, length: int) -> None:
        self.nodes: dict[str, set[str]] = {ANY_POLICY: {ANY_POLICY}}
        self.explicit = self.mapping = self.inhibit_any = length + 1

    def go_down(self, own: Policies, *, last: bool) -> None:
        """§6.1.3 (d) to (f)."""
        self.nodes = {} if own.named is None else self._below(own, own.named, last=last)
        if self.explicit == 0 and not self.nodes:
            raise RuleError(
                "a chain for which policyConstraints require an explicit policy, and no certificate policy leads through all of it"
            )

    def _below(self, own: Policies, named: frozenset[str], *, last: bool) -> dict[str, set[str]]:
        expected = set().union(*self.nodes.values())
        made = {policy for policy in named - {ANY_POLICY} if policy in expected or ANY_POLICY in self.nodes}
        if ANY_POLICY in named and (self.inhibit_any > 0 or (own.self_issued and not last)):
            made |= expected
        return {policy: {policy} for policy in made}

    def prepare(self, own: Policies) -> None:
        """For what it issued (§6.1.4)."""
        for policy, subjects in own.mapped.items():
            if self.mapping == 0:
                self.nodes.pop(policy, None)
            elif policy in self.nodes or ANY_POLICY in self.nodes:
                self.nodes[policy] = set(subjects)
        if not own.self_issued:
            left = self.explicit, self.mapping, self.inhibit_any
            self.explicit, self.mapping, self.inhibit_any = (max(one - 1, 0) for one in left)
        self.explicit = _least(self.explicit, own.require_explicit)
        self.mapping = _least(self.mapping, own.inhibit_mapping)
        self.inhibit_any = _least(self.inhibit_any, own.inhibit_any)

    def wrap_up(self, own: Policies) -> None:
        """§6.1.5 (a), (b), (g)."""
        self.explicit = max(self.explicit - 1, 0)
        if own.require_explicit == 0:
            self.explicit = 0
        if self.explicit == 0 and not self.nodes:
            raise RuleError("a chain whose last certificate requires an explicit policy (policyConstraints), and there is none")


def _least(now: int, said: int | None) -> int:
    return now if said is None else min(now, said)


def check_policies(path: Sequence[x509.Certificate]) -> None:
    """`path`: from the certificate that the trust anchor issued down to the peer's. RuleError when its policies do not hold."""
    said: Iterable[Policies] = map(policies_of, path)
    walk = _Walk(len(path))
    for number, own in enumerate(said, 1):
        last = number == len(path)
        walk.go_down(own, last=last)
        if last:
            walk.wrap_up(own)
        else:
            walk.prepare(own)
