"""What a successor is offered, and what is ready by then."""

from __future__ import annotations

import asyncio
import os
import threading
from types import SimpleNamespace

import msgspec
import pytest

from ipsec_dp.databases.sad_shape import ToldSad
from ipsec_dp.gateway.upgrade import giving
from ipsec_dp.gateway.upgrade.messages import (
    HelperOffer,
    MessageKind,
    Ready,
    SasPrepared,
    UpgradeRefused,
    body_of,
)
from ipsec_dp.gateway.upgrade.offered import shape_of
from tests.doubles.giving import HOST
from tests.unit.giving_site import (  # noqa: F401 - fixtures
    made_engine,
    made_given,
    made_gone,
    made_noting,
    made_parts,
    made_successor,
)


def test_what_may_not_change_between_offer_and_state_is_compared():
    assert shape_of(HOST) == shape_of(msgspec.structs.replace(HOST, mtus={}, withdrawn=["ipsec0"]))
    other = msgspec.structs.replace(HOST.links[0], local="192.0.2.9")
    assert shape_of(HOST) != shape_of(msgspec.structs.replace(HOST, links=[other]))


def test_the_channel_of_the_root_helper_is_offered_and_not_kept(given, successor, monkeypatch):
    made, offers = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), []
    given.privileges = SimpleNamespace(helper=SimpleNamespace(stay=lambda: made, process=4712), program="0.1.0")

    def made_offer(_host, _places, helper):
        offers.append(helper)
        return UpgradeRefused("in the place of an offer")

    monkeypatch.setattr(given, "made_offer", made_offer)

    def ready():
        successor.there.receive(seconds=30.0).close()
        successor.there.send(MessageKind.READY, body_of(Ready("9")), seconds=30.0)
        successor.there.receive(seconds=30.0)
        successor.there.send(MessageKind.PREPARED, body_of(SasPrepared(0)), seconds=30.0)

    successor.thread = threading.Thread(target=ready)
    successor.thread.start()
    asyncio.run(given.offer(successor))
    assert offers == [HelperOffer(made, 4712, "0.1.0")]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(made)


def test_what_is_told_of_sas_is_made_while_the_successor_gets_ready(given, successor, monkeypatch):
    """Which takes it seconds."""
    made, in_time = threading.Event(), []

    class Told(ToldSad):
        def news(self):
            made.set()
            return super().news()

    def ready():
        successor.there.receive(seconds=30.0).close()
        in_time.append(made.wait(10.0))
        successor.there.send(MessageKind.READY, body_of(Ready("9")), seconds=30.0)
        successor.there.receive(seconds=30.0)
        successor.there.send(MessageKind.PREPARED, body_of(SasPrepared(0)), seconds=30.0)

    monkeypatch.setattr(giving, "ToldSad", Told)
    monkeypatch.setattr(given, "made_offer", lambda *_: UpgradeRefused("in the place of an offer"))
    successor.thread = threading.Thread(target=ready)
    successor.thread.start()
    asyncio.run(given.offer(successor))
    assert in_time == [True]
