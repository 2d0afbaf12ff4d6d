"""One gateway of a name in a network namespace at a time."""

from __future__ import annotations

import os
import secrets
import socket

import pytest

from ipsec_dp.host import HostError, claim
from ipsec_dp.util.service_user import SERVICE_ID, service_user


@pytest.fixture
def name():
    """Nobody else's."""
    return f"test-{os.getpid()}-{secrets.token_hex(4)}"


def test_a_name_is_given_once_and_again_when_it_is_free(name):
    with claim.take(name):
        assert claim.holder(name) == claim.Holder(os.getpid(), os.geteuid())
        with pytest.raises(claim.RunningError, match=f"gateway {name} is already running .* process {os.getpid()}"):
            claim.take(name)
        claim.take(f"{name}-other").close()
    assert claim.holder(name) is None
    claim.take(name).close()


def test_a_name_longer_than_a_sockets_is_held_too(name):
    long = name + "ü" * 100
    with claim.take(long), pytest.raises(claim.RunningError):
        claim.take(long)


def test_a_user_who_can_be_no_gateway_hinders_none(name, monkeypatch, caplog):
    with claim.take(name):
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        monkeypatch.setattr(claim, "holder", lambda _: claim.Holder(12, 65533))
        with claim.take(name):
            assert f"process 12 of user 65533 holds the name of gateway {name} and cannot be one" in caplog.text


def test_a_gateway_that_gave_root_up_is_one():
    """Or `open` of root would take its guard away while it lives."""
    assert all(claim.Holder(4711, uid).may_be_a_gateway for uid in (0, os.geteuid(), SERVICE_ID, service_user().uid))
    assert not claim.Holder(4711, 65534).may_be_a_gateway
    assert str(claim.Holder(4711, SERVICE_ID)) == "process 4711", "it is no news that it is not root"
    assert str(claim.Holder(4711, 1000)) == "process 4711 of user 1000"


def test_what_the_system_refuses_is_one_line(name, monkeypatch):
    def refused(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", refused)
    with pytest.raises(HostError, match=r"^Too many open files; .*ulimit -n"):
        claim.take(name)
