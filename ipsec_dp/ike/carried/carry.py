"""Export and import of a gateway's IKE, whole: every IKE SA whose two sides have proven themselves, with all that is under way.

An export by a source that has stopped is exact, and retires it: its keys seal nothing any more, and are wiped. One by a source that
goes on reserves a stride of SK IVs for it, behind which the import begins. The clear form is octets in memory and nothing else.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ipsec_dp.ike.actions import InstallInbound, InstallOutbound
from ipsec_dp.ike.carried.envelope import open_model, seal_model
from ipsec_dp.ike.carried.ikev2 import Ikev2Export, Ikev2Source
from ipsec_dp.ike.carried.ikev2_import import Ikev2Import
from ipsec_dp.ike.carried.keys import KeysOf, no_keys
from ipsec_dp.ike.carried.model import ChoicePart, LeftOut
from ipsec_dp.ike.carried.part import UNSOUND, CarriedStateError
from ipsec_dp.ike.carried.pieces import AT_ONCE, Piece, pieces_of
from ipsec_dp.ike.carried.places import check_places
from ipsec_dp.ike.carried.serials import is_reserved, serials_of
from ipsec_dp.ike.carried.whole import CarriedIke

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ipsec_dp.ike.actions import Action
    from ipsec_dp.ike.carried.ikev1 import Ikev1Export
    from ipsec_dp.ike.carried.ikev1_import import Ikev1Import
    from ipsec_dp.ike.carried.part import CarriedPart
    from ipsec_dp.ike.carried.serials import Serials
    from ipsec_dp.ike.manager import IkeManager
    from ipsec_dp.ike.v1.context import Peering
    from ipsec_dp.ike.v1.manager import IsakmpManager
    from ipsec_dp.ike.version_choice import VersionChoice


class CarriedCore(Protocol):
    """What is carried, and carried to: `core.IkeVersions`."""

    ikev2: IkeManager
    ikev1: IsakmpManager | None

    @property
    def choices(self) -> Mapping[str, VersionChoice]:
        """Of the tunnels that may fall to IKEv1."""

    def with_ikev1(self) -> IsakmpManager:
        """IKEv1's manager, which is there from now on."""

    def unfinished(self) -> bool:
        """Whether something that was begun with many at once is not over."""


@dataclass(frozen=True, slots=True)
class ExportedIke:
    """`octets`: whoever has them wipes them. `left_out`: what is to be negotiated anew. `serials`: for `LastExport.note`."""

    octets: bytearray = field(repr=False)
    left_out: tuple[LeftOut, ...]
    serials: Serials


@dataclass(frozen=True, slots=True)
class ImportedIke:
    """`actions`: what the data plane is to have. `reserved`: SPIs of tunnels that are named to peers and have no SA yet."""

    left_out: tuple[LeftOut, ...]
    actions: list[Action] = field(repr=False)
    reserved: tuple[tuple[str, int], ...]


class IkeSource:
    """What is carried of one core; see `export_ike`. Nothing may happen to it meanwhile."""

    def __init__(self, core: CarriedCore, now: float, keys: KeysOf = no_keys, *, stride: int | None = None) -> None:
        if core.unfinished():
            raise CarriedStateError("what was begun with many tunnels at once is not over: it has to be first")
        self._core, self._now, self._stopped = core, now, stride is None
        self._ikev2, self._ikev1 = Ikev2Source(core.ikev2, now, keys, stride), _ikev1_export(core, now, keys, stride)
        self.left_out = [*self._ikev2.left_out, *([] if self._ikev1 is None else self._ikev1.left_out)]

    def whole(self) -> ExportedIke:
        """All in one."""
        return self._export(Piece(self._ikev2.sessions, self._peerings), first=True)

    def pieces(self) -> list[Piece]:
        """Which of them go together. Only a source that has stopped is exported so: of another one the last export counts."""
        return pieces_of(self._ikev2.sessions, self._peerings, AT_ONCE)

    def each(self, pieces: Iterable[Piece]) -> Iterator[ExportedIke]:
        """Each of `pieces` in turn; it is retired when it is given. In the place of one that cannot be exported is one that says
        so of its tunnels."""
        for number, piece in enumerate(pieces):
            try:
                exported = self._export(piece, first=number == 0)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other pieces go on
                self._retire(piece)
                why = f"it could not be handed over ({type(error).__name__})"
                unsound = [LeftOut(tunnel=tunnel, spi_i=b"", why=why) for tunnel in piece.tunnels]
                exported = self._export(Piece([], []), unsound, first=number == 0)
            yield exported

    @property
    def _peerings(self) -> list[Peering]:
        return [] if self._ikev1 is None else self._ikev1.peerings

    def _export(self, piece: Piece, unsound: Iterable[LeftOut] = (), *, first: bool) -> ExportedIke:
        ikev2, ikev1 = Ikev2Export(self._ikev2, piece.sessions, first=first), self._ikev1
        left_out = [*(self.left_out if first else ()), *unsound]
        parts: list[CarriedPart] = []
        try:
            parts.append(of_ikev2 := ikev2.part())
            of_ikev1 = None if ikev1 is None else ikev1.part(piece.peerings, ikev2.left_out, first=first)
            if of_ikev1 is not None:
                parts.append(of_ikev1)
            choices = [_choice_part(*each) for each in self._core.choices.items()] if first else []
            model = CarriedIke(
                at=self._now,
                last_number=self._core.ikev2.last_number,
                ikev2=of_ikev2,
                ikev1=of_ikev1,
                choices=choices,
                left_out=left_out,
            )
            parts[:] = [model]
            octets = seal_model(model)
        finally:
            for part in parts:
                part.wipe()
        if self._stopped:
            self._retire(piece)
        # The import says the last by itself, and of whoever belongs to them.
        return ExportedIke(octets, (*left_out, *ikev2.left_out), serials_of(model))

    def _retire(self, piece: Piece) -> None:
        Ikev2Export(self._ikev2, piece.sessions, first=False).retire()
        if self._ikev1 is not None:
            self._ikev1.retire(piece.peerings)


def export_ike(core: CarriedCore, now: float, keys: KeysOf = no_keys, *, stride: int | None = None) -> ExportedIke:
    """All at once. `stride` None: the source has stopped, and is retired by this. Raises CarriedStateError, and nothing has
    changed, while something that was begun with many at once is not over."""
    return IkeSource(core, now, keys, stride=stride).whole()


def _ikev1_export(core: CarriedCore, now: float, keys: KeysOf, stride: int | None) -> Ikev1Export | None:
    """IKEv1 is loaded where there is any, and not else."""
    if core.ikev1 is None:
        return None
    from ipsec_dp.ike.carried.ikev1 import Ikev1Export

    return Ikev1Export(core.ikev1, now, keys, stopped=stride is None)


def _choice_part(tunnel: str, choice: VersionChoice) -> ChoicePart:
    fallen, first, reason = choice.memory
    return ChoicePart(tunnel=tunnel, fallen=fallen, first=first, reason=reason)


def import_ike(core: CarriedCore, octets: bytearray, now: float, admit: Callable[[Serials], None] | None = None) -> ImportedIke:
    """Into a core that has its peers, and of IKE SAs none but those of earlier pieces. The octets are wiped, whatever comes of it.
    `admit`: `LastExport.admit`, without which no state of a source that goes on is imported. Raises CarriedStateError, and the core
    is as it was."""
    try:
        model = open_model(octets)
    finally:
        octets[:] = bytes(len(octets))
    try:
        return _imported(model, core, now, admit)
    finally:
        model.wipe()


def _imported(model: CarriedIke, core: CarriedCore, now: float, admit: Callable[[Serials], None] | None) -> ImportedIke:
    actions: list[Action] = []
    with ExitStack() as unmade:
        ikev2, ikev1 = _made(model, core, now, actions, unmade)
        if admit is not None:
            admit(serials_of(model))
        elif is_reserved(model):
            raise CarriedStateError("the state is of a source that goes on, and nobody says whether there was a later export")
        unmade.pop_all()
    ikev2.commit(model.last_number)  # nothing behind this is to fail
    left_out, reserved = [*model.left_out, *ikev2.left_out], ikev2.reserved
    if ikev1 is not None:
        ikev1.commit()
        left_out, reserved = left_out + ikev1.left_out, reserved + ikev1.reserved
    for one in model.choices:
        if one.tunnel in core.choices:
            core.choices[one.tunnel].resume((one.fallen, one.first, one.reason))
    return ImportedIke(tuple(left_out), actions, tuple(reserved))


def _made(
    model: CarriedIke, core: CarriedCore, now: float, actions: list[Action], unmade: ExitStack
) -> tuple[Ikev2Import, Ikev1Import | None]:
    """With `actions`, which it fills. `unmade` wipes it all where nothing comes of it."""
    unmade.callback(_wipe_keys, actions)
    try:
        check_places(model)
        ikev2, ikev1 = Ikev2Import(model.ikev2, core.ikev2, now), None
        unmade.callback(ikev2.wipe)
        actions.extend(ikev2.actions())
        if model.ikev1 is not None and (model.ikev1.peerings or model.ikev1.counts or model.ikev1.retransmissions):
            from ipsec_dp.ike.carried.ikev1_import import Ikev1Import

            ikev1 = Ikev1Import(model.ikev1, core.with_ikev1(), now)
            unmade.callback(ikev1.wipe)
            actions.extend(ikev1.actions())
    except UNSOUND as error:
        raise CarriedStateError(f"the state says what cannot be: {type(error).__name__}") from None
    return ikev2, ikev1


def _wipe_keys(actions: Iterable[Action]) -> None:
    """Of SAs that nobody installs."""
    for one in actions:
        if isinstance(one, InstallInbound | InstallOutbound):
            one.keymat[:] = bytes(len(one.keymat))
