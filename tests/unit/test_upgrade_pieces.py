"""IKE of a gateway comes to its successor in pieces: what is wrong with one of them, or with one IKE SA, ends no other tunnel."""

from __future__ import annotations

import errno
import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.upgrade import taking
from ipsec_dp.gateway.upgrade.messages import GivenIke, GivenState, MessageKind, UpgradeRefused, body_of
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError
from ipsec_dp.ike.carried import carry
from ipsec_dp.keying.ike_driver import IkeDriver
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.ike.carried.crowds import keys, up_of
from tests.ike.carried.test_bad_state import changed_model
from tests.unit.carried_drivers import Nothing, given, giver, taker

UP, COUNT = 6, 7  # tunnels; one waits


@pytest.fixture(autouse=True)
def two_tunnels_each(monkeypatch):
    monkeypatch.setattr(carry, "AT_ONCE", 4)


@pytest.fixture
def handed_over(tmp_path):
    """What becomes of the messages when `change` has had them: the successor, and what it leaves out."""

    def handed_over(change=lambda messages: messages, children=None) -> Any:
        ours, theirs = HandOverChannel.pair()
        by, there = giver(tmp_path, UP, COUNT), HandOverChannel(theirs)
        to = taker(there, tmp_path, COUNT, children=children)
        to.lives = []
        to.successor.lives = to.lives.append

        def say() -> None:
            for kind, body in change(given(by)):
                ours.send(kind, body, seconds=30.0)
            ours.close()

        saying = threading.Thread(target=say)
        saying.start()
        state = to.successor.heard(GivenState)
        left_out = to.successor.take_ike(to.engine, state)
        to.engine.ike.begin_anew()
        saying.join()
        there.close()
        return to, [(one.tunnel, one.why) for one in left_out]

    return handed_over


def up(to):
    return up_of(to.engine.core, COUNT, 0.0)


def called(to):
    """The tunnels that are called anew."""
    leaving = to.engine.ike.export(to.engine.core, keys)
    intents = leaving.others | {name: intent for _, piece in leaving.pieces for name, intent in piece.items()}
    return sorted(name for name, intent in intents.items() if intent.next_attempt is not None)


def each(change):
    """`change` gets the second piece and says what comes in its place."""

    def changed(messages):
        for number, (kind, body) in enumerate(messages):
            yield from change(body) if number == 2 else [(kind, body)]

    return changed


def test_all_come_and_nothing_is_called_anew(handed_over):
    to, left_out = handed_over()
    assert left_out == []
    assert up(to) == [f"t{number}" for number in range(UP)]
    assert to.engine.ike.status("t0").state == "up"
    assert to.engine.ike.status("t6").state == "waiting"
    assert called(to) == []


def test_the_manager_hears_of_the_successor_after_each_piece(handed_over):
    """It is the service by then."""
    to, _ = handed_over()
    assert to.lives == [taking.IKE_S] * 3


def test_each_piece_has_what_is_wanted_of_its_tunnels(tmp_path):
    state, *pieces = [body for _, body in given(giver(tmp_path, UP, COUNT))]
    read = [msgspec.msgpack.decode(body, type=GivenIke) for body in pieces]
    assert [sorted(piece.intents) for piece in read] == [["t0", "t1"], ["t2", "t3"], ["t4", "t5"]]
    found = msgspec.msgpack.decode(state, type=GivenState)
    assert (found.pieces, sorted(found.intents)) == (3, ["t6"])


def test_an_ike_sa_that_cannot_be_taken_is_named_and_begun_anew(handed_over):
    def spoil(body):
        piece = msgspec.msgpack.decode(body, type=GivenIke)
        ike = changed_model(piece.ike, lambda plain: plain["ikev2"]["sas"][1].update(state="asleep"))
        yield MessageKind.IKE, body_of(msgspec.structs.replace(piece, ike=ike))

    to, left_out = handed_over(each(spoil))
    assert [tunnel for tunnel, _ in left_out] == ["t3"]
    assert up(to) == ["t0", "t1", "t2", "t4", "t5"]
    assert called(to) == ["t3"]


def test_the_tunnels_of_a_piece_that_cannot_be_read_are_named_and_begun_anew(handed_over):
    def spoil(body):
        piece = msgspec.msgpack.decode(body, type=GivenIke)
        yield MessageKind.IKE, body_of(msgspec.structs.replace(piece, ike=piece.ike[:-1]))

    to, left_out = handed_over(each(spoil))
    assert [tunnel for tunnel, _ in left_out] == ["t2", "t3"]
    assert all("was cut" in why for _, why in left_out)
    assert up(to) == ["t0", "t1", "t4", "t5"]
    assert called(to) == ["t2", "t3"]


def test_a_piece_that_nobody_foresaw_is_named_and_the_others_go_on(handed_over, monkeypatch):
    """Whatever is raised where it is taken: nobody else has the SAs of the other pieces."""
    take = IkeDriver.take

    def failing(driver, core, octets, intents, claim):
        if "t2" in intents:
            raise OverflowError("a number that is too large")
        return take(driver, core, octets, intents, claim)

    monkeypatch.setattr(IkeDriver, "take", failing)
    to, left_out = handed_over()
    assert [tunnel for tunnel, _ in left_out] == ["t2", "t3"]
    assert all("OverflowError: a number that is too large" in why for _, why in left_out)
    assert up(to) == ["t0", "t1", "t4", "t5"]
    assert called(to) == ["t2", "t3"]


def test_what_is_wanted_of_the_tunnels_of_a_piece_that_cannot_be_read_is_known(handed_over):
    """One that somebody has switched off stays off."""

    def spoil(body):
        piece = msgspec.msgpack.decode(body, type=GivenIke)
        off = msgspec.structs.replace(piece.intents["t2"], state="down", off=True, next_attempt=None)
        yield MessageKind.IKE, body_of(msgspec.structs.replace(piece, ike=piece.ike[:-1], intents=piece.intents | {"t2": off}))

    to, left_out = handed_over(each(spoil))
    assert [tunnel for tunnel, _ in left_out] == ["t2", "t3"]
    assert called(to) == ["t3"]


def ends(_body):
    yield MessageKind.REFUSED, body_of(UpgradeRefused("a fault"))


def test_what_does_not_come_any_more_is_begun_anew(handed_over):
    to, left_out = handed_over(each(ends))
    assert left_out == [("", "further IKE SAs: a fault")]
    assert up(to) == ["t0", "t1"]
    assert called(to) == ["t2", "t3", "t4", "t5"]


class Gone:
    """A channel of a process that has gone, and how long one would have waited for it."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def receive(self, *, seconds: float, waiting: Any) -> Any:  # noqa: ARG002
        self.waits.append(seconds)
        raise HandOverError("the other process has gone")


def test_the_other_process_has_time_to_look_at_all_its_sas_and_who_goes_on_alone_ends_for_no_thread(tmp_path):
    channel, conditions = Gone(), Conditions(FakeClock())
    to = taker(cast("Any", channel), tmp_path, COUNT)

    def fails() -> None:
        raise DataPlaneError(errno.EAGAIN, "starting the thread of port 500")

    to.engine.plane = SimpleNamespace(start_ike=fails)
    to.engine.sad = SimpleNamespace(children=range(10_000), expected={}, adopting=nullcontext, end_unowned=lambda *_: ())
    parts = SimpleNamespace(
        config=SimpleNamespace(tunnels=()), spd=SimpleNamespace(tunnel_numbers={}), host=SimpleNamespace(conditions=conditions)
    )
    (left_out,) = to.successor.go_on(parts, to.engine, None)
    assert left_out.why == "all IKE SAs: the other process has gone"
    assert channel.waits == [taking.IKE_S + 10_000 * taking.IKE_EACH_S]
    assert ["restart the gateway" in text for text in conditions.texts] == [True]


def test_no_octets_of_a_piece_are_left(handed_over, monkeypatch):
    """Neither where they were made nor where they were taken."""
    had, wipe, take = list[bytearray](), GivenIke.wipe, IkeDriver.take

    def wiped(piece: GivenIke) -> None:
        had.append(piece.ike)
        wipe(piece)

    def taken(driver: IkeDriver, core: Any, octets: bytearray, *others: Any) -> Any:
        had.append(octets)
        return take(driver, core, octets, *others)

    monkeypatch.setattr(GivenIke, "wipe", wiped)
    monkeypatch.setattr(IkeDriver, "take", taken)
    handed_over()
    assert len(had) == 2 * 3
    assert not any(map(any, had))


class FullForOne(Nothing):
    """A data plane that has no room for the SAs of one tunnel."""

    def install_inbound(self, action):
        if action.tunnel == "t2":
            raise DataPlaneError(12, "no room")


def test_why_a_child_sa_could_not_be_carried_is_said_of_its_tunnel(handed_over):
    to, _ = handed_over(children=FullForOne())
    assert [to.engine.ike.status(f"t{number}").last_error for number in range(4)] == [None, None, "no room", None]
