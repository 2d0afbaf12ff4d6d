"""What fails before the point of no return changes nothing here; what fails after it ends this process."""

from __future__ import annotations

import msgspec
import pytest

from ipsec_dp.gateway.upgrade import giving
from ipsec_dp.gateway.upgrade.answer import ChangedMeanwhileError
from ipsec_dp.gateway.upgrade.giving import BrokenOffError
from ipsec_dp.gateway.upgrade.messages import (
    MessageKind,
    UpgradeRefused,
    body_of,
)
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError
from tests.doubles.giving import GOES_ON, HOST
from tests.unit.giving_site import (  # noqa: F401 - fixtures
    IKE,
    forwards,
    goes_on,
    made_engine,
    made_given,
    made_gone,
    made_noting,
    made_offered,
    made_parts,
    made_successor,
    on,
)


def busy(noting, _successor, _gone):
    noting.idle = False


def changed(noting, _successor, _gone):
    tun = msgspec.structs.replace(HOST.tuns[0], index=8)
    noting.host = msgspec.structs.replace(HOST, tuns=[tun])


def dead(_noting, successor, _gone):
    successor.has_ended = True


def closed(_noting, successor, _gone):
    successor.there.close()


@pytest.mark.parametrize("how", [busy, changed, dead, closed], ids=lambda how: how.__name__)
def test_what_fails_before_the_export_has_this_process_read_on(given, engine, successor, offered, noting, gone, how, monkeypatch):
    given.hands_over = lambda _: noting.notes.append("the service is another process")
    monkeypatch.setattr(giving, "IDLE_S", 0.01)
    how(noting, successor, gone)
    with pytest.raises(HandOverError):
        given.hand_over(engine, successor, offered)
    assert noting.notes[-2:] == ["resumed", "port 500 read"]
    assert "exported" not in noting.notes
    assert "the service is another process" not in noting.notes
    assert "IKE stopped" not in noting.notes


def test_where_the_service_manager_does_not_hear_who_goes_on_this_process_does(given, engine, successor, offered, noting):
    """It would end the successor with it."""

    def unheard(_process):
        raise TimeoutError("timed out")

    given.hands_over = unheard
    with pytest.raises(ChangedMeanwhileError, match=r"does not hear which process goes on \(timed out\); ask again"):
        given.hand_over(engine, successor, offered)
    assert noting.notes[-2:] == ["resumed", "port 500 read"]
    assert "exported" not in noting.notes


def test_a_gateway_that_stops_hands_nothing_over(given, engine, successor, offered, noting, gone):
    gone.stopping = True
    with pytest.raises(HandOverError, match="stopping"):
        given.hand_over(engine, successor, offered)
    assert noting.notes == []


def silent(_there):
    pass


def refusing(there):
    there.send(MessageKind.REFUSED, body_of(UpgradeRefused("no")), seconds=5.0)


@pytest.mark.parametrize("before", [(), (forwards,), (forwards, *IKE)], ids=["with the SAs", "with IKE", "with a piece of it"])
@pytest.mark.parametrize("answer", [silent, refusing, HandOverChannel.close], ids=["hangs", "refuses", "ends"])
def test_after_the_export_this_process_never_goes_on(given, engine, successor, offered, noting, answer, before, monkeypatch):
    for patience in ("GOES_ON_S", "PIECE_S"):
        monkeypatch.setattr(giving, patience, 0.1)
    successor.take(*before, answer)
    with pytest.raises(BrokenOffError, match="stays closed"):
        given.hand_over(engine, successor, offered)
    assert "resumed" not in noting.notes
    assert noting.notes[-1] == "IKE stopped"


def test_a_successor_that_hangs_with_the_pieces_unread_is_waited_for_no_longer_than_for_one(
    given, engine, successor, offered, noting, monkeypatch
):
    """However many there are."""
    monkeypatch.setattr(giving, "ALIVE_S", 0.01)
    monkeypatch.setattr(giving, "PIECE_S", 0.3)
    noting.pieces = [bytearray(b"IKE") for _ in range(1000)]
    successor.take(forwards, on)
    with pytest.raises(BrokenOffError, match="the other process reads nothing any more; what is protected stays closed"):
        given.hand_over(engine, successor, offered)
    assert successor.states[1].pieces == 1000


def test_a_successor_that_has_gone_on_without_this_process_is_left_alone(given, engine, successor, offered):
    """This process stood still, and comes late with IKE."""

    def alone(there):
        forwards(there)
        goes_on(there)
        there.close()

    exported = engine.ike.export

    def late(*arguments):
        successor.thread.join()
        return exported(*arguments)

    engine.ike.export = late
    successor.take(alone)
    assert given.hand_over(engine, successor, offered) == GOES_ON


def test_a_successor_that_forwards_goes_on_where_ike_could_not_be_exported(given, engine, successor, offered, noting):
    """It hears why, and negotiates anew."""
    noting.refusal = RuntimeError("a fault")
    successor.take(forwards, goes_on)
    assert given.hand_over(engine, successor, offered) == GOES_ON
    successor.thread.join()
    assert successor.states[1] == UpgradeRefused("a fault")
    assert "resumed" not in noting.notes


def test_a_piece_that_cannot_be_exported_leaves_those_before_it(given, engine, successor, offered, noting):
    noting.pieces[1] = RuntimeError("a fault")
    successor.take(forwards, *IKE, goes_on)
    assert given.hand_over(engine, successor, offered) == GOES_ON
    successor.thread.join()
    assert (successor.states[2].ike, successor.states[3]) == (bytearray(b"IKE"), UpgradeRefused("a fault"))
