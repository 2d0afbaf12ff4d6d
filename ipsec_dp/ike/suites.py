"""Suites: the algorithms that a chosen proposal names, for an IKE SA and for a CHILD_SA, and as the data plane has them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ipsec_dp.ike.proposal import Proposal, ProposalError, text
from ipsec_dp.ipsec.suites import Encr, Integ, Suite
from ipsec_dp.ipsec.transforms import (
    ADDITIONAL_KEY_EXCHANGES,
    BY_TRANSFORM,
    ESN,
    NO_ESN,
    NONE,
    AdditionalKeyExchange,
    Algorithm,
    Encryption,
    Group,
    Integrity,
    Prf,
    Transform,
    TransformType,
    transform_text,
)

MAY_BE_NONE: Final = frozenset({TransformType.INTEG, TransformType.KE, *ADDITIONAL_KEY_EXCHANGES})
_CIPHERS: Final = frozenset(map(int, Encr))  # of the data plane
_INTEGRITIES: Final = frozenset(map(int, Integ))


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """What protects an IKE SA. `integrity` is None exactly when `encryption` is an AEAD. `additional`: by number; those that are
    left out are not there."""

    encryption: Encryption
    prf: Prf
    integrity: Integrity | None
    group: Group
    additional: tuple[AdditionalKeyExchange, ...] = ()

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """As a proposal names it: every algorithm there is, each additional key exchange among them."""
        return _transforms(self.encryption, self.prf, self.integrity, self.group, *self.additional)

    def __str__(self) -> str:
        return _joined(self.encryption, self.integrity, self.prf, self.group, *self.additional)


@dataclass(frozen=True, slots=True)
class EspSuite:
    """What protects a CHILD_SA; `group` is None without PFS. `additional`: by number; those that are left out are not there."""

    encryption: Encryption
    integrity: Integrity | None
    group: Group | None
    esn: bool
    additional: tuple[AdditionalKeyExchange, ...] = ()

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """What protects packets: without the key exchange by which the keys were made."""
        return (*_transforms(self.encryption, self.integrity), ESN if self.esn else NO_ESN)

    def __str__(self) -> str:
        return _joined(self.encryption, self.integrity, self.group, *self.additional) + ("-esn" if self.esn else "")


def _transforms(*algorithms: Algorithm | None) -> tuple[Transform, ...]:
    return tuple(algorithm.transform for algorithm in algorithms if algorithm is not None)


def _joined(*algorithms: Algorithm | None) -> str:
    return "-".join(algorithm.keyword for algorithm in algorithms if algorithm is not None)


# --- of a chosen proposal --------------------------------------------------------------------------------------------


def ike_suite(chosen: Proposal) -> IkeSuite:
    """The algorithms of a chosen IKE proposal. ProposalError when it is not one `select` or `accept` would give."""
    found = _algorithms(chosen)
    encryption, prf, integrity, group = (
        found.get(t) for t in (TransformType.ENCR, TransformType.PRF, TransformType.INTEG, TransformType.KE)
    )
    if not isinstance(encryption, Encryption) or not isinstance(prf, Prf) or not isinstance(group, Group):
        raise ProposalError(f"incomplete IKE proposal {text([chosen])}")
    return IkeSuite(encryption, prf, _integrity_of(encryption, integrity, chosen), group, _additional(found, chosen))


def _additional(found: dict[int, Algorithm], chosen: Proposal) -> tuple[AdditionalKeyExchange, ...]:
    additional = tuple(one for _, one in sorted(found.items()) if isinstance(one, AdditionalKeyExchange))
    if len({one.method for one in additional}) != len(additional):
        raise ProposalError(f"an additional key exchange twice (RFC 9370 §2.2.1) in {text([chosen])}")
    return additional


def esp_suite(chosen: Proposal) -> EspSuite:
    """The algorithms of a chosen ESP proposal. ProposalError as for `ike_suite`."""
    found = _algorithms(chosen)
    encryption, integrity, group = (found.get(t) for t in (TransformType.ENCR, TransformType.INTEG, TransformType.KE))
    if not isinstance(encryption, Encryption) or not isinstance(group, Group | None):
        raise ProposalError(f"incomplete ESP proposal {text([chosen])}")
    additional = _additional(found, chosen)
    if additional and group is None:
        raise ProposalError(f"additional key exchanges without a first one in {text([chosen])}")
    return EspSuite(encryption, _integrity_of(encryption, integrity, chosen), group, ESN in chosen.transforms, additional)


def _algorithms(chosen: Proposal) -> dict[int, Algorithm]:
    """By type; a transform outside our tables, or two of one type, never become key material."""
    found: dict[int, Algorithm] = {}
    for transform in chosen.transforms:
        if transform in (ESN, NO_ESN) or (transform.type in MAY_BE_NONE and transform == Transform(transform.type, NONE)):
            continue
        algorithm = BY_TRANSFORM.get(transform)
        if algorithm is None or transform.type in found:
            raise ProposalError(f"unusable transform {transform_text(transform)} in {text([chosen])}")
        found[transform.type] = algorithm
    return found


def _integrity_of(encryption: Encryption, integrity: Algorithm | None, chosen: Proposal) -> Integrity | None:
    if encryption.is_aead and integrity is None:
        return None
    if encryption.is_aead or not isinstance(integrity, Integrity):
        raise ProposalError(f"integrity does not fit the encryption in {text([chosen])}")
    return integrity


# --- of the data plane -----------------------------------------------------------------------------------------------


def suites_of(proposals: Iterable[Proposal]) -> list[Suite]:
    """Every suite that ESP proposals may end in and the data plane has; sequence numbers do not matter here."""
    found: dict[Suite, None] = {}
    for proposal in proposals:
        ciphers = [t for t in proposal.transforms if t.type == TransformType.ENCR and t.id in _CIPHERS]
        integrities = [Integ(t.id) for t in proposal.transforms if t.type == TransformType.INTEG and t.id in _INTEGRITIES]
        for cipher in ciphers:
            for integrity in integrities or [Integ.NONE]:
                encr = Encr(cipher.id)
                found[Suite(encr, (cipher.key_length or 256) // 8, integrity, esn=False)] = None
    return list(found)


def suite_of(suite: EspSuite) -> Suite:
    """A negotiated suite as the data plane names it."""
    integrity = Integ.NONE if suite.integrity is None else Integ(suite.integrity.id)
    return Suite(Encr(suite.encryption.id), suite.encryption.key, integrity, suite.esn)
