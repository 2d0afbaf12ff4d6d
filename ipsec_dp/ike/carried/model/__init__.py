"""The model of what is carried: all IKE SAs of a gateway with the IKE side of their CHILD_SAs, as values.

A CHILD_SA is named by its SPIs; its sequence numbers, its window and its counters are the data plane's, which exports them by the
inbound SPI. Messages are the octets that were sent. Instants are seconds of the clock of the data plane, which goes on while the
host is suspended: a lifetime goes on where it was. SAs name each other by their place in the list, CHILD_SAs by their number.

What is not here is negotiated anew: an IKE SA before both sides have proven themselves, and what strangers may cost.
"""

from __future__ import annotations

from typing import Final

from ipsec_dp.ike.carried.model.children import (
    ChildPart,
    TablePart,
)
from ipsec_dp.ike.carried.model.exchanges import (
    AgreementPart,
    ChildCreatePart,
    ChildDeletePart,
    ClearPart,
    FragmentsPart,
    HalfPart,
    IkeDeletePart,
    IkeRekeyPart,
    LivenessPart,
    OfferPart,
    OurSeriesPart,
    OutstandingPart,
    PreparedPart,
    ProbePart,
    SealedPart,
    TaskPart,
    TheirSeriesPart,
    WindowPart,
)
from ipsec_dp.ike.carried.model.ike_sas import (
    AbilitiesPart,
    ChoicePart,
    EndsPart,
    Exact,
    IkeSaPart,
    Ikev2Part,
    KeptKeysPart,
    KeysPart,
    LeftOut,
    Reserved,
)
from ipsec_dp.ike.carried.model.values import (
    EndValue,
    IdentityValue,
    LengthValue,
    LimitsValue,
    NatValue,
    PairValue,
    PathValue,
    ProposalValue,
    SelectorValue,
    SuiteValue,
    TransformValue,
    WithstoodValue,
)
from ipsec_dp.ike.carried.model.wishes import (
    WaitingValue,
    WantedPart,
    WishValue,
)

MODEL: Final = 1
"""Of this version. Fields are added with a default; whatever an older reader would get wrong makes another number."""

__all__ = [
    "MODEL",
    "AbilitiesPart",
    "AgreementPart",
    "ChildCreatePart",
    "ChildDeletePart",
    "ChildPart",
    "ChoicePart",
    "ClearPart",
    "EndValue",
    "EndsPart",
    "Exact",
    "FragmentsPart",
    "HalfPart",
    "IdentityValue",
    "IkeDeletePart",
    "IkeRekeyPart",
    "IkeSaPart",
    "Ikev2Part",
    "KeptKeysPart",
    "KeysPart",
    "LeftOut",
    "LengthValue",
    "LimitsValue",
    "LivenessPart",
    "NatValue",
    "OfferPart",
    "OurSeriesPart",
    "OutstandingPart",
    "PairValue",
    "PathValue",
    "PreparedPart",
    "ProbePart",
    "ProposalValue",
    "Reserved",
    "SealedPart",
    "SelectorValue",
    "SuiteValue",
    "TablePart",
    "TaskPart",
    "TheirSeriesPart",
    "TransformValue",
    "WaitingValue",
    "WantedPart",
    "WindowPart",
    "WishValue",
    "WithstoodValue",
]
