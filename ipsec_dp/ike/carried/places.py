"""Whether every place that the model names is there: an index from 0 to the end of its list. Nobody behind this asks again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.carried import model as m

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sized

    from ipsec_dp.ike.carried.isakmp_model import Ikev1Part
    from ipsec_dp.ike.carried.whole import CarriedIke


def check_places(model: CarriedIke) -> None:
    """Raises ValueError for one that is not."""
    for place, there in (*_of_ikev2(model.ikev2), *(() if model.ikev1 is None else _of_ikev1(model.ikev1))):
        if place is not None and not 0 <= place < len(there):
            raise ValueError("the state names what is not in it")


def _of_ikev2(part: m.Ikev2Part) -> Iterator[tuple[int | None, Sized]]:
    for sa in part.sas:
        yield sa.abilities, part.abilities
        yield sa.table, part.tables
        yield sa.wanted, part.wanted
        yield sa.before, part.sas
        yield sa.after, part.sas
        for rival in _rivals(sa):
            yield rival, part.sas
    for table in part.tables:
        yield table.holder, part.sas
    for place in part.due:
        yield place, part.sas


def _rivals(sa: m.IkeSaPart) -> Iterator[int | None]:
    tasks: Iterable[m.TaskPart] = [*sa.queue, *([] if sa.window.outstanding is None else [sa.window.outstanding.task])]
    for task in tasks:
        if isinstance(task, m.IkeRekeyPart):
            yield task.rival


def _of_ikev1(part: Ikev1Part) -> Iterator[tuple[int, Sized]]:
    for place, number in part.due:
        yield place, part.peerings
        if number != -1 and 0 <= place < len(part.peerings):
            yield number, part.peerings[place].sessions
