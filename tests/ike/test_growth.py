"""What the core does for one thing costs the same beside 500 others as beside 8,000; for all of them, as much as there are.

Rows are what there are many of, columns what happens; steps of the interpreter are counted (`growth`), so that it is exact.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import log2
from typing import TYPE_CHECKING, Any

import pytest

from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.peer import Life
from ipsec_dp.ike.strangers import LIMITS, StrangersEvents
from ipsec_dp.ike.timer_queue import TimerQueue
from ipsec_dp.ike.v2.sa import ChildState

from . import growth
from .growth import Scene, address, net
from .ladder import packet
from .test_ladder_init import from_address, init_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Operation = Callable[[], object]

STEP = 0.25  # opcodes that each thing more may add to what happens to one of them: whoever looks at each takes several
LOOK_UP = 300  # opcodes that twice as many may add besides: a look-up in a heap, or a prefix more
LINEAR = 2.3  # all of them, when there are twice as many
NEGOTIATED = 2000  # CHILD_SAs: each takes a while
SHORT, LONG = (200, 800), (500, 8000)
SIZES = [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=[pytest.mark.slow, pytest.mark.measure])]


def core(scene: Scene) -> Any:
    return scene.site.core


def first(scene: Scene) -> Any:
    return core(scene).sessions(scene.concerned)[0]


def up(session: Any) -> int:
    """A CHILD_SA of it that is up."""
    return next(number for number, child in reversed(session.children.items()) if child.state is ChildState.UP)


# ---- what happens to one thing: made ready, then called


def receives_init(scene: Scene) -> Operation:
    return lambda: core(scene).receive(init_request(10**9), from_address("203.0.113.9"), scene.now)


def receives_init_from_the_peers_address(scene: Scene) -> Operation:
    return lambda: core(scene).receive(init_request(10**9), scene.ladder.path("b"), scene.now)


def receives_a_request(scene: Scene) -> Operation:
    ladder = scene.ladder
    ladder.a.do(ladder.a.core.rekey("to-b", scene.now))
    assert ladder.wire.waiting("b") == 1
    return lambda: ladder.deliver("b")


def receives_an_auth(scene: Scene) -> Operation:
    """A has lost everything and begins anew."""
    ladder = scene.ladder
    scene.settle_wire()
    ladder.a.core.forget(scene.now)
    ladder.initiate("a", asks=packet("10.1.0.1", "10.2.0.1"))
    while ladder.messages("a")[-1] != "ab IKE_AUTH":
        assert ladder.deliver("b")
        assert ladder.deliver("a")
    return lambda: ladder.deliver("b")


def asks_for_a_packet(scene: Scene) -> Operation:
    asked = packet("10.2.0.1", f"{net(1).removesuffix('0/24')}1")
    return lambda: core(scene).acquire(scene.concerned, asked, scene.now)


def has_a_timer_due(scene: Scene) -> Operation:
    session = core(scene).sessions("to-a")[0]
    scene(core(scene).soft_limit("to-a", up(session), scene.now))
    assert session.task is not None
    return lambda: core(scene).timer(scene.now + 1.01)


def shows_one(scene: Scene) -> Operation:
    number = up(first(scene))
    return lambda: [core(scene).latest(scene.concerned, scene.now), core(scene).rekey_in(number, scene.now), core(scene).counters()]


def changes_one(scene: Scene) -> Operation:
    changed = replace(first(scene).peer, tunnel="to-a", child_life=Life(1800.0))
    return lambda: core(scene).reconfigure([changed], {"to-a": Effect.REKEY}, scene.now)


def learns_an_address(scene: Scene) -> Operation:
    """Of a name; the next stranger may no longer be that tunnel's peer."""
    known = replace(core(scene).sessions("to-a")[0].peer, tunnel="t7", remotes=(address(7),))
    core(scene).receive(init_request(10**8), from_address("203.0.113.8"), scene.now)

    def learn() -> None:
        core(scene).set_peer(known)
        core(scene).receive(init_request(10**9), from_address("203.0.113.9"), scene.now)

    return learn


def reaches_a_limit(scene: Scene) -> Operation:
    number = up(first(scene))
    return lambda: core(scene).soft_limit(scene.concerned, number, scene.now)


def loses_a_child_sa(scene: Scene) -> Operation:
    number = up(first(scene))
    return lambda: core(scene).hard_limit(scene.concerned, number, scene.now)


def moves(scene: Scene) -> Operation:
    there, number = Endpoint(address(9), 4500), up(first(scene))
    return lambda: core(scene).peer_moved(scene.concerned, number, there, scene.now)


def probes_the_path(scene: Scene) -> Operation:
    return lambda: core(scene).probe(scene.concerned, 1400, 0.5, scene.now)


def restarts_one(scene: Scene) -> Operation:
    same = core(scene).sessions("to-a")[0].peer
    return lambda: core(scene).reconfigure([same], {"to-a": Effect.RESTART}, scene.now)


ONE = (  # in this order on one scene: the last ones end what the others need
    receives_init,
    receives_init_from_the_peers_address,
    shows_one,
    moves,
    probes_the_path,
    asks_for_a_packet,
    has_a_timer_due,
    receives_a_request,
    reaches_a_limit,
    loses_a_child_sa,
    receives_an_auth,
    changes_one,
    restarts_one,
)
OF_NAMES = (learns_an_address, *ONE)
OF_CHILD_SAS = tuple(each for each in ONE if each not in (receives_an_auth, changes_one, restarts_one))  # which end or rekey all
ROWS_OF_ONE: dict[Callable[[int], Scene], tuple[Callable[[Scene], Operation], ...]] = {
    growth.half_open: ONE,
    growth.of_one_tunnel: ONE,
    growth.of_distinct_tunnels: ONE,
    growth.static_tunnels: ONE,
    growth.named_tunnels: OF_NAMES,
    growth.tunnels_with_dn: OF_NAMES,
    growth.proxy_ids: OF_CHILD_SAS,
    growth.child_sas: OF_CHILD_SAS,
    growth.wanted: tuple(each for each in OF_CHILD_SAS if each is not shows_one),  # which names all that lacks
}


def counted(operation: Operation, how: Any) -> int:
    with how() as steps:
        operation()
    return int(steps.count)


def looks_at_each(cost: dict[int, int]) -> str:
    """By how much it costs more for each thing more, where that is more than a look-up is."""
    low, high = min(cost), max(cost)
    more = (cost[high] - cost[low] - LOOK_UP * log2(high / low)) / (high - low)
    return f"{cost}: {more:.2f} opcodes more for each" if more > STEP else ""


def too_much(cost: dict[int, int], most: float) -> str:
    """How much more it costs when there are twice as many, where that is more than `most`."""
    low, high = min(cost), max(cost)
    doubled = (cost[high] / max(cost[low], 1)) ** (1 / log2(high / low))
    return f"{cost}: × {doubled:.2f} for twice as many" if doubled > most else ""


def sized(row: Any, sizes: Iterable[int]) -> list[int]:
    """As many as there can be."""
    most = {growth.half_open: LIMITS.half_open, growth.wanted: NEGOTIATED, growth.unwanted: NEGOTIATED}.get(row, max(sizes))
    return sorted({min(size, most) for size in sizes})


def ends_of(sizes: list[int], part: int = 1) -> tuple[int, int]:
    """The fewest and the most."""
    return sizes[0] // part, sizes[-1] // part


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("row", ROWS_OF_ONE, ids=lambda row: row.__name__)
def test_one_thing_costs_the_same_beside_many_others(row, sizes):
    cost: dict[str, dict[int, int]] = {}
    for count in ends_of(sized(row, sizes)):
        scene = row(count)
        for column in ROWS_OF_ONE[row]:
            cost.setdefault(column.__name__, {})[count] = counted(column(scene), growth.opcodes)
    assert {name: text for name, costs in cost.items() if (text := looks_at_each(costs))} == {}


# ---- what happens to all of them


def shows_all(scene: Scene) -> Operation:
    tunnels = sorted({session.peer.tunnel for session in core(scene).sessions()})
    return lambda: [core(scene).status(tunnel, scene.now) for tunnel in tunnels]


def of_each(scene: Scene, call: Callable[[str], Any]) -> Operation:
    tunnels = sorted({session.peer.tunnel for session in core(scene).sessions()})

    def call_each() -> None:
        for tunnel in tunnels:
            scene(call(tunnel))

    return call_each


def asks_all_whether_they_live(scene: Scene) -> Operation:
    return of_each(scene, lambda tunnel: core(scene).check_liveness(tunnel, scene.now))


def changes_all(scene: Scene, effect: Effect = Effect.SELECTORS) -> Operation:
    peers = {session.peer.tunnel: session.peer for session in core(scene).sessions()}
    return lambda: scene(core(scene).reconfigure(peers.values(), dict.fromkeys(peers, effect), scene.now))


def of_each_child(scene: Scene, call: Callable[[str, int, float], Any]) -> Operation:
    numbers = [(session.peer.tunnel, number) for session in core(scene).sessions() for number in session.children]

    def call_each() -> None:
        for tunnel, number in numbers:
            scene(call(tunnel, number, scene.now))

    return call_each


def rekeys_all(scene: Scene) -> Operation:
    """By the limits of the data plane, each by itself."""
    return of_each_child(scene, core(scene).soft_limit)


def loses_all_limits(scene: Scene) -> Operation:
    return of_each_child(scene, core(scene).hard_limit)


def ages(scene: Scene) -> Operation:
    """Half-open ones expire; peers do not answer; lifetimes of CHILD_SAs are over."""

    def age() -> None:
        for seconds in (31.0, 300.0, 3700.0):
            scene.drain(scene.now + seconds)

    return age


def ends_all(scene: Scene) -> Operation:
    return of_each(scene, lambda tunnel: core(scene).terminate(tunnel, scene.now))


def forgets_all(scene: Scene) -> Operation:
    return lambda: scene(core(scene).forget(scene.now))


def closes_all(scene: Scene) -> Operation:
    return lambda: scene(core(scene).close(scene.now))


def begins_all(scene: Scene) -> Operation:
    """Only the first request of each: nobody answers."""

    def begin() -> None:
        for number in range(1, scene.count + 1):
            path = Path(Endpoint(scene.ladder.path("b").local.address, 500), Endpoint(address(number), 500))
            scene(core(scene).initiate(f"t{number}", path, scene.now))

    return begin


def comes_up(scene: Scene) -> Operation:
    """Every proxy ID that is wanted, one after the other; the peer has each, or refuses it."""

    def come_up() -> None:
        scene.site.do(scene.site.core.initiate("to-a", scene.ladder.path("b"), scene.now))
        scene.settle_wire()

    return come_up


def takes_all_away(scene: Scene) -> Operation:
    """The peer deletes each CHILD_SA by itself."""
    ladder = scene.ladder
    (session,) = ladder.a.core.sessions("to-b")
    numbers = list(session.children)
    assert len(numbers) > scene.count, "all came up"

    def take() -> None:
        for number in numbers:
            ladder.a.do(ladder.a.core.delete_child("to-b", number, scene.now))
            scene.settle_wire()

    return take


LIFE = (shows_all, changes_all, rekeys_all, asks_all_whether_they_live, ends_all)
SUDDEN = {
    "restart": (partial(changes_all, effect=Effect.RESTART),),
    "limits": (loses_all_limits,),
    "end": (ends_all,),
    "clone": (forgets_all,),
    "close": (closes_all,),
}
ROWS_OF_ALL: list[Any] = [
    pytest.param(growth.wanted, (comes_up, takes_all_away), id="wanted_come_and_go"),
    pytest.param(growth.unwanted, (comes_up,), id="wanted_are_refused"),
    pytest.param(growth.half_open, (ages,), id="half_open expire"),
    pytest.param(growth.static_tunnels, (begins_all, ages), id="static_tunnels begin"),
    *(
        pytest.param(row, columns, id=f"{row.__name__} {name}")
        for row in (growth.of_one_tunnel, growth.of_distinct_tunnels, growth.child_sas)
        for name, columns in {"life": LIFE, "old age": (ages,), **SUDDEN}.items()
    ),
]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("row", "columns"), ROWS_OF_ALL)
def test_all_of_them_cost_as_much_as_there_are(row, columns, sizes):
    cost: dict[str, dict[int, int]] = {}
    for count in ends_of(sized(row, sizes), part=2):
        scene = row(count)
        scene.count = count
        for column in columns:
            name = getattr(column, "__name__", "changes_all")
            cost.setdefault(name, {})[count] = counted(column(scene), growth.calls)
    assert {name: text for name, costs in cost.items() if (text := too_much(costs, LINEAR))} == {}


# ---- what the core keeps besides


@pytest.mark.parametrize("count", [500, 8000])
def test_a_timer_that_is_set_again_and_again_leaves_nothing_behind(count):
    """Each request of a session and its answer set it twice."""
    queue: TimerQueue[int] = TimerQueue()
    for number in range(count):
        queue.set(number, 1000.0 + number)

    def often() -> None:
        for number in range(2 * count):
            queue.set(7, 3600.0 + number % 2)

    cost = counted(often, growth.calls) / count
    assert cost < 40
    assert counted(queue.next, growth.opcodes) < 40 * 3, "nothing outdated is looked through"


def test_strangers_events_cost_the_same_however_many_are_remembered():
    cost = {}
    for count in (10, 10 * LIMITS.texts):
        events = StrangersEvents()
        for number in range(count):
            events.may_tell(number, float(number))
        cost[count] = counted(partial(events.may_tell, "another", float(count)), growth.opcodes)
    assert looks_at_each(cost) == ""
