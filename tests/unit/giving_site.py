"""A gateway that hands itself over, among doubles that note what is asked of them; the channel to the successor is a real one.

Whoever imports its fixtures has them by their own names: `given`, `engine`, `successor` and others.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipsec_dp.dataplane import Endpoint
from ipsec_dp.dataplane.moving import record_layout
from ipsec_dp.gateway.ike_counts import CarriedCounts
from ipsec_dp.gateway.upgrade import giving
from ipsec_dp.gateway.upgrade.giving import Giving
from ipsec_dp.gateway.upgrade.messages import (
    Forwards,
    GivenIke,
    GivenSas,
    GivenState,
    MessageKind,
    UpgradeRefused,
    body_of,
    message_of,
)
from ipsec_dp.gateway.upgrade.offered import Offered, Places
from ipsec_dp.gateway.upgrade.stream import HandOverChannel, HandOverError
from ipsec_dp.services.path_mtu import CarriedMtus
from tests.doubles.giving import GOES_ON, Gone, Noting

GIVEN: tuple[type[Any], ...] = (GivenSas, GivenState, GivenIke, UpgradeRefused)

PEER = Endpoint(ip_address("192.0.2.2"), 4500)


@pytest.fixture(name="noting")
def made_noting():
    return Noting()


@pytest.fixture(name="engine")
def made_engine(noting):
    return SimpleNamespace(
        plane=noting,
        sad=SimpleNamespace(
            export_all=noting.export_all,
            export=noting.export_each,
            events=noting.events,
            records={},
            children={},
            expected={0x1002: PEER},
        ),
        events=SimpleNamespace(handle=None),
        ike=SimpleNamespace(finish=noting.finish, export=noting.export_ike, export_findings=dict, stop=noting.stop),
        children=SimpleNamespace(spis=lambda: ()),
        core=None,
        reloader=SimpleNamespace(incomplete=False, tell_files=lambda: noting.notes.append("which files are needed")),
    )


@pytest.fixture(name="parts")
def made_parts(engine, noting):
    return SimpleNamespace(
        engine=engine,
        host=noting,
        spd=SimpleNamespace(tunnel_numbers={"to-b": 0}, tunnel_names={0: "to-b"}, interface_names={1: "ipsec0"}),
        mtus=SimpleNamespace(export=lambda: CarriedMtus([], {"to-b": 1400})),
        monitors=SimpleNamespace(export=dict),
        counts=SimpleNamespace(export=lambda: CarriedCounts([], [], {})),
        metrics=noting.metrics,
        config=SimpleNamespace(name="a", workers=1),
        confirmation=SimpleNamespace(waits_for=None),
        clock=SimpleNamespace(now=lambda: 7.0),
    )


@pytest.fixture(name="gone")
def made_gone():
    return Gone()


@pytest.fixture(name="given")
def made_given(parts, gone, noting, monkeypatch):
    made = Giving(
        parts,
        control=lambda: (Path("a.sock"), -1),
        stopping=lambda: gone.stopping,
        gone=gone.left_to.append,
        lost=gone.lost.append,
    )
    noting.links = SimpleNamespace(read_ike=lambda: None)
    monkeypatch.setattr(giving, "LinuxHost", Noting)
    return made


@pytest.fixture(name="offered")
def made_offered(noting):
    places = Places()
    return Offered(noting.inherited(places), places.inodes, noting, record_layout())


@pytest.fixture(name="successor")
def made_successor():
    """Our end; `says` is what the other end does when it has the state."""
    ours, theirs = HandOverChannel.pair()
    there = HandOverChannel(theirs)
    made = SimpleNamespace(channel=ours, has_ended=False, there=there, states=[], pid=4712)

    def take(*answers):
        def run():
            with contextlib.suppress(HandOverError):
                for answer in answers:
                    got = there.receive(seconds=5.0)
                    made.states.append(message_of(got.kind, got.body, *GIVEN))
                    answer(there)

        made.thread = threading.Thread(target=run)
        made.thread.start()

    made.take = take
    yield made
    if hasattr(made, "thread"):
        made.thread.join()
    ours.close()
    there.close()


def forwards(there):
    there.send(MessageKind.FORWARDS, body_of(Forwards(1)), seconds=5.0)


def on(_there):
    """It takes what came, and says nothing."""


IKE = (on, on)  # STATE, and the first of two pieces


def goes_on(there):
    there.send(MessageKind.GOES_ON, body_of(GOES_ON), seconds=5.0)


def asked(given, path=None):
    return asyncio.run(given.upgrade(path))
