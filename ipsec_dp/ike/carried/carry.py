"""Export and import of a gateway's IKE, whole: every IKE SA whose two sides have proven themselves, with all that is under way.

An export by a source that has stopped is exact, and retires it: its keys seal nothing any more, and are wiped. One by a source that
goes on reserves a stride of SK IVs for it, behind which the import begins. The clear form is octets in memory and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipsec_dp.ike.carried.envelope import open_model, seal_model
from ipsec_dp.ike.carried.ikev2 import Ikev2Export
from ipsec_dp.ike.carried.ikev2_import import Ikev2Import
from ipsec_dp.ike.carried.keys import KeysOf, no_keys
from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.ike.carried.whole import CarriedIke
from ipsec_dp.ike.errors import IkeError

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Action
    from ipsec_dp.ike.carried.model import LeftOut
    from ipsec_dp.ike.manager import IkeManager


@dataclass(frozen=True, slots=True)
class ExportedIke:
    """`octets`: whoever has them wipes them. `left_out`: what is to be negotiated anew."""

    octets: bytearray = field(repr=False)
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class ImportedIke:
    """`actions`: what the data plane is to have. `reserved`: SPIs of tunnels that are named to peers and have no SA yet."""

    left_out: tuple[LeftOut, ...]
    actions: list[Action] = field(repr=False)
    reserved: tuple[tuple[str, int], ...]


def export_ike(manager: IkeManager, now: float, keys: KeysOf = no_keys, *, stride: int | None = None) -> ExportedIke:
    """`stride` None: the source has stopped, and is retired by this. Raises CarriedStateError, and nothing has changed, while
    something that was begun with many at once is not over."""
    if manager.unfinished():
        raise CarriedStateError("what was begun with many tunnels at once is not over: it has to be first")
    ikev2 = Ikev2Export(manager, now, keys, stride)
    model = CarriedIke(at=now, last_number=manager.last_number, ikev2=ikev2.part(), left_out=ikev2.left_out)
    octets = seal_model(model)
    model.wipe()
    if stride is None:
        ikev2.retire()
    return ExportedIke(octets, tuple(ikev2.left_out))


def import_ike(manager: IkeManager, octets: bytearray, now: float) -> ImportedIke:
    """Into a manager that has its peers and nothing else. The octets are wiped, whatever comes of it. Raises CarriedStateError, and
    the manager is as it was."""
    try:
        model = open_model(octets)
        ikev2 = _made(model, manager, now)
    finally:
        octets[:] = bytes(len(octets))
    ikev2.commit(model.last_number)
    found = ImportedIke((*model.left_out, *ikev2.left_out), ikev2.actions(), tuple(ikev2.reserved))
    model.wipe()
    return found


def _made(model: CarriedIke, manager: IkeManager, now: float) -> Ikev2Import:
    try:
        return Ikev2Import(model.ikev2, manager, now)
    except (IkeError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        model.wipe()
        raise CarriedStateError(f"the state says what cannot be: {type(error).__name__}") from None
