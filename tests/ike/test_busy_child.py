"""Whether a peer with very many CHILD_SAs lives is seen by the one whose packets come, without a look at the others."""

from ipsec_dp.ike.environment import NEVER, SILENT, Activity
from ipsec_dp.ike.peer import Liveness

from .growth import Scene, net
from .ladder import proxy_id

MANY = 200


class Asked(dict[int, Activity]):
    """What the data plane saw of each CHILD_SA, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def __getitem__(self, child: int) -> Activity:
        self.times += 1
        return self.get(child, SILENT)


def hub():
    """B with MANY CHILD_SAs of one IKE SA, and those."""
    scene = Scene(liveness=Liveness(10.0))
    (session,) = scene.site.core.sessions("to-a")
    for number in range(1, MANY):
        scene.carry(session, proxy_id("10.2.0.0/24", net(number)))
    scene.site.activity = Asked()  # type: ignore[assignment]
    return scene, list(session.children)


def test_one_that_is_busy_is_enough():
    scene, children = hub()
    assert len(children) == MANY
    before = len(scene.ladder.wire.log)
    for _ in range(20):
        scene.ladder.clock.advance(4.0)
        scene.site.activity[children[-1]] = Activity(scene.now, NEVER)
        scene.drain(scene.now)
    assert scene.site.activity.times <= 2 * MANY
    assert len(scene.ladder.wire.log) == before, "nobody was asked"


def test_another_one_is_found_when_it_rests_and_the_peer_is_asked_when_all_do():
    scene, children = hub()
    before = len(scene.ladder.wire.log)
    for number in (0, MANY // 2, 3):
        for _ in range(5):
            scene.ladder.clock.advance(4.0)
            scene.site.activity[children[number]] = Activity(scene.now, NEVER)
            scene.drain(scene.now)
    assert len(scene.ladder.wire.log) == before
    scene.ladder.clock.advance(9.9)
    scene.drain(scene.now)
    assert len(scene.ladder.wire.log) == before, "not before the interval is over"
    scene.ladder.clock.advance(5.1)
    scene.drain(scene.now)
    assert scene.ladder.messages("b")[-1] == "ba INFORMATIONAL"
