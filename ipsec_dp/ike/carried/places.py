"""Which places the model names: an index from 0 to the end of its list. Nobody behind this asks again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike.carried import model as m

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sized

    from ipsec_dp.ike.carried.isakmp_model import Ikev1Part
    from ipsec_dp.ike.carried.whole import CarriedIke


def check_places(model: CarriedIke) -> None:
    """Of what belongs to no IKE SA alone. Raises ValueError for one that is not there."""
    part = model.ikev2
    for place, there in (*((place, part.sas) for place in part.due), *(() if model.ikev1 is None else _of_ikev1(model.ikev1))):
        _check(place, there)


def check_sa(sa: m.IkeSaPart, part: m.Ikev2Part) -> None:
    """What one IKE SA of `part` names. Raises ValueError."""
    for place, there in ((sa.abilities, part.abilities), (sa.table, part.tables), (sa.wanted, part.wanted)):
        if place is not None:
            _check(place, there)
    for place in _others(sa):
        _check(place, part.sas)


def check_table(table: m.TablePart, part: m.Ikev2Part) -> None:
    """Raises ValueError for one of nobody."""
    _check(table.holder, part.sas)


def families(part: m.Ikev2Part) -> list[list[int]]:
    """The places of IKE SAs that name each other, or have something together."""
    above: dict[int, int] = {}

    def root(place: int) -> int:
        while place in above:
            place = above[place]
        return place

    for one, two in _links(part):
        if 0 <= one < len(part.sas) and 0 <= two < len(part.sas) and root(one) != root(two):
            above[root(two)] = root(one)
    found: dict[int, list[int]] = {}
    for place in range(len(part.sas)):
        found.setdefault(root(place), []).append(place)
    return list(found.values())


def _links(part: m.Ikev2Part) -> Iterator[tuple[int, int]]:
    """Two IKE SAs each, by what they name or have together: a table, what is wanted, a CHILD_SA."""
    first: dict[tuple[str, int], int] = {}  # by what it is and its number, the first that names or has it
    for place, sa in enumerate(part.sas):
        for other in _others(sa):
            yield place, other
        for child in _children(sa):
            yield first.setdefault(("child", child), place), place
        yield first.setdefault(("table", sa.table), place), place
        if sa.wanted is not None:
            yield first.setdefault(("wanted", sa.wanted), place), place
    for number, table in enumerate(part.tables):
        yield first.get(("table", number), table.holder), table.holder
        for child in (*table.all, *(one.number for one in table.children), *_successors(table.children)):
            yield first.setdefault(("child", child), table.holder), table.holder
    for loose in part.loose:
        holder = first.get(("child", loose.number))
        if holder is not None:
            for child in _successors([loose]):
                yield first.setdefault(("child", child), holder), holder


def _check(place: int, there: Sized) -> None:
    if not 0 <= place < len(there):
        raise ValueError("the state names what is not in it")


def _others(sa: m.IkeSaPart) -> Iterator[int]:
    """The IKE SAs that it names."""
    for place in (sa.before, sa.after, *(task.rival for task in _tasks(sa) if isinstance(task, m.IkeRekeyPart))):
        if place is not None:
            yield place


def _children(sa: m.IkeSaPart) -> Iterator[int]:
    """The numbers of the CHILD_SAs that it names."""
    named: list[int | None] = [series.rekeys for series in sa.series]
    for task in _tasks(sa):
        if isinstance(task, m.ChildCreatePart):
            named += (task.rekeys, task.rival, task.beside)
        elif isinstance(task, m.ChildDeletePart):
            named.append(task.child)
    return (number for number in named if number is not None)


def _successors(children: Iterable[m.ChildPart]) -> Iterator[int]:
    return (one.successor for one in children if one.successor is not None)


def _tasks(sa: m.IkeSaPart) -> list[m.TaskPart]:
    return [*sa.queue, *(() if sa.window.outstanding is None else (sa.window.outstanding.task,))]


def _of_ikev1(part: Ikev1Part) -> Iterator[tuple[int, Sized]]:
    for place, number in part.due:
        yield place, part.peerings
        if number != -1 and 0 <= place < len(part.peerings):
            yield number, part.peerings[place].sessions
