"""IKE SAs that have ended and only answer a repeat of the last request: they are few, and take no place of one that is up."""

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.authenticated import PEER_LIMITS
from ipsec_dp.ike.v2.lingering import Lingering
from ipsec_dp.ike.v2.sa import State
from ipsec_dp.ike.v2.session import LINGER
from ipsec_dp.ike.v2.wire import PayloadType

from .ladder import Ladder

FIRST_PAYLOAD = 16  # where a header names it (RFC 7296 §3.1)


def ended(ladder: Ladder) -> bytes:
    """The peer calls, is up, and ends its IKE SA; its DELETE."""
    ladder.initiate("a")
    ladder.settle()
    ladder.a.do(ladder.a.core.terminate("to-b", ladder.clock()))
    delete = ladder.wire.log[-1][0].data[0]
    ladder.settle()
    return delete


@pytest.fixture
def ladder():
    return Ladder()


def lingering(ladder):
    return [one for one in ladder.b.core.sessions("to-a") if one.state is State.LINGERING]


def test_a_peer_that_ends_its_ike_sas_may_make_others_at_once(ladder):
    """A2 in full: a new tunnel for each ping ended with the 30th one."""
    for _ in range(3 * PEER_LIMITS.ike_sas):
        ended(ladder)
    ladder.initiate("a")
    ladder.settle()
    ladder.check()
    assert len(ladder.b.core.sessions("to-a")) == 1 + PEER_LIMITS.lingering
    assert not [event for event in ladder.b.events if event.kind is Kind.IKE_FAILED]


def test_of_those_that_have_ended_the_newest_still_answer_a_repeat(ladder):
    deletes = [ended(ladder) for _ in range(PEER_LIMITS.lingering + 3)]
    assert len(lingering(ladder)) == PEER_LIMITS.lingering
    answers = []
    for delete in deletes:
        ladder.b.do(ladder.b.core.receive(delete, ladder.path("b"), ladder.clock()))
        answers.append(ladder.wire.log[-1][0].data[0][FIRST_PAYLOAD])
    assert answers == [PayloadType.NOTIFY] * 3 + [PayloadType.SK] * PEER_LIMITS.lingering, "the oldest are not known any more"


def test_nothing_lingers_for_longer_than_a_repeat_may_come(ladder):
    for _ in range(PEER_LIMITS.lingering + 3):
        ended(ladder)
    ladder.run(LINGER + 1.0)
    assert ladder.b.core.empty


def test_the_oldest_goes_of_the_same_peer_and_of_all():
    kept: Lingering[int] = Lingering()
    assert [kept.add(number, "alice") for number in range(PEER_LIMITS.lingering)] == [None] * PEER_LIMITS.lingering
    assert kept.add(1000, "bob") is None
    assert kept.add(1001, "alice") == 0
    kept.discard(0)
    kept.discard(0)
    number = 2000
    while (oldest := kept.add(number, f"peer {number}")) is None:
        number += 1
    assert (oldest, len(kept)) == (1, PEER_LIMITS.lingering_in_all + 1)
    assert 1 in kept
    kept.discard(1)
    assert 1 not in kept
