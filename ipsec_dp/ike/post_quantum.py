"""Whether keys withstand a quantum adversary who records today, and by what.

An IKE SA has two answers: for the keys that protect its own messages, and for SK_d, of which CHILD_SAs and further IKE SAs are
made. A PPK by RFC 8784 goes into the second alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ipsec_dp.ipsec.transforms import ADDITIONAL_KEY_EXCHANGES, KEMS, TransformType

if TYPE_CHECKING:
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ike.suites import EspSuite, IkeSuite
    from ipsec_dp.ipsec.transforms import Group

Withstands = Literal["mlkem768", "mlkem1024", "ppk", "inherited", "none"]
Demand = Literal["preferred", "required"]

_STRENGTH: Final[tuple[Withstands, ...]] = ("none", "inherited", "ppk", "mlkem768", "mlkem1024")
_KEMS: Final = frozenset(method.id for method in KEMS)


class PostQuantum(NamedTuple):
    """Of an IKE SA and of one CHILD_SA of it, or of those that are made of it."""

    ike: Withstands = "none"
    child: Withstands = "none"


class IkeProtection(NamedTuple):
    """`own`: what protects the keys of an IKE SA itself; `seed`: what protects SK_d."""

    own: Withstands = "none"
    seed: Withstands = "none"

    def with_exchange(self, method: Group | None) -> IkeProtection:
        """After one more key exchange of all its keys."""
        return self.with_keys(_name(method))

    def with_keys(self, by: Withstands) -> IkeProtection:
        """After all its keys were made anew by `by`."""
        return IkeProtection(_stronger(self.own, by), _stronger(self.seed, by))

    def with_seed(self, by: Withstands) -> IkeProtection:
        """After SK_d was."""
        return self._replace(seed=_stronger(self.seed, by))

    def rekeyed(self, suite: IkeSuite) -> IkeProtection:
        """Of the IKE SA that takes the place of this one: by its own key exchanges, or since SK_d of this one was protected."""
        by = _stronger(of_exchanges(suite), "none" if self.seed == "none" else "inherited")
        return IkeProtection(by, by)

    def child(self, suite: EspSuite | None = None) -> Withstands:
        """Of a CHILD_SA made of it, with the key exchanges of `suite`. A PPK that went into SK_d alone is still its own."""
        inherited: Withstands = "none" if self.seed == "none" else "ppk" if self.own == "none" else "inherited"
        return inherited if suite is None else _stronger(of_exchanges(suite), inherited)


UNPROTECTED: Final = IkeProtection()
NOTHING: Final = PostQuantum()


def of_exchanges(suite: IkeSuite | EspSuite) -> Withstands:
    """What a suite has for it among its key exchanges."""
    found: Withstands = _name(suite.group)
    for one in suite.additional:
        found = _stronger(found, _name(one.method))
    return found


def assured(proposal: Proposal) -> bool:
    """Whether it cannot be agreed on without ML-KEM."""
    exchanges = (TransformType.KE, *ADDITIONAL_KEY_EXCHANGES)
    choices = ({one.id for one in proposal.transforms if one.type == kind} for kind in exchanges)
    return any(choice and choice <= _KEMS for choice in choices)


def possible(proposals: tuple[Proposal, ...]) -> bool:
    """Whether any of them can be agreed on with ML-KEM."""
    exchanges = frozenset((TransformType.KE, *ADDITIONAL_KEY_EXCHANGES))
    return any(one.type in exchanges and one.id in _KEMS for each in proposals for one in each.transforms)


def _name(method: Group | None) -> Withstands:
    if method is None or method.id not in _KEMS:
        return "none"
    return "mlkem768" if method.keyword == "mlkem768" else "mlkem1024"


def _stronger(one: Withstands, other: Withstands) -> Withstands:
    return max(one, other, key=_STRENGTH.index)
