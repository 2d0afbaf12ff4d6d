"""A gateway is handed over while its file says something else than what is in force: what the successor begins with, what it takes
over afterwards, and what it refuses before anything stops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from ipsec_dp import __version__
from ipsec_dp.config import CertificateAuth, PskAuth, files, load
from ipsec_dp.config.difference import Difference, as_known, known
from ipsec_dp.config.load import examine_text
from ipsec_dp.config.model import Ppk
from ipsec_dp.errors import Finding, IpsecDpError
from ipsec_dp.gateway.messages import ReloadRefusal
from ipsec_dp.gateway.reload import UPGRADED, ReloadFailedError
from ipsec_dp.gateway.upgrade import configuration
from ipsec_dp.gateway.upgrade.configuration import take_over
from ipsec_dp.gateway.upgrade.messages import GatewayOffer, MessageKind, body_of, message_of
from ipsec_dp.gateway.upgrade.stream import HandOverChannel
from ipsec_dp.gateway.upgrade.taking import Successor
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.network.inheritance import InheritedHost
from ipsec_dp.services.path_mtu import CarriedMtus
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.config import MANUAL, configured, tunnel

ANOTHER = "another secret of some length\n"
TO_C = tunnel("to-c", remote="192.0.2.3", interface="ipsec1")
DISCARD = '[[policy]]\naction = "discard"\nremote = "10.9.0.0/16"\n'


def offer(config):
    """As it comes."""
    given = GatewayOffer(
        program=__version__,
        gateway=config.name,
        config=str(config.path),
        control="a.sock",
        listening=0,
        workers=1,
        sa_slots=65536,
        numbers={},
        key=bytes(32),
        known={each.name: known(each) for each in config.tunnels},
        text=config.text,
        host=InheritedHost(claim=-1, tuns=[], links=[], mtus={}),
        mtus=CarriedMtus([], {}),
    )
    return message_of(MessageKind.OFFER, body_of(given), GatewayOffer)


class Taken:
    """What a reloader was asked for, and what came of it."""

    def __init__(self, came_of_it: object = None) -> None:
        self.asked: list[Difference] = []
        self._came_of_it = came_of_it

    def of(self, old: Any) -> Any:
        self._old = old
        return cast("Any", self)

    async def reload(self, path, *, reread):
        found, _ = await reread(self._old, path)
        self.asked.append(found)
        if isinstance(self._came_of_it, Exception):
            raise self._came_of_it
        return self._came_of_it


@pytest.fixture(autouse=True)
def one_key():
    """Of fingerprints, as the two processes share it."""
    ours = files.fingerprint_key()
    files.share_fingerprints(bytes(32))
    yield
    files.share_fingerprints(ours)
    gc.unfreeze()  # what a successor keeps out of collections is for good


def in_force(directory, *tables):
    """A configuration that is in force, and a successor that is to begin with it."""
    config = configured(directory, *tables)
    return config, Successor(cast("Any", None), offer(config), [], os.close)


def written(directory, *tables):
    (directory / "gw.toml").write_text('[gateway]\nname = "gw"\n' + "".join(tables))


def taken(successor, old):
    """What is taken over afterwards; None: nothing is."""
    conditions, reloader = Conditions(FakeClock()), Taken()
    asyncio.run(successor.take_file(reloader.of(old), conditions))
    assert conditions.texts == []
    return reloader.asked[0] if reloader.asked else None


def test_a_file_that_says_what_is_in_force_is_taken_as_it_is(tmp_path):
    config, successor = in_force(tmp_path, tunnel())
    assert successor.config(config.path) == config
    assert (taken(successor, config), successor.changes) == (None, None)


@pytest.mark.parametrize("tables", [(), (TO_C,)])
def test_the_secrets_that_were_compared_are_those_that_peers_are_made_with(tmp_path, tables):
    config, successor = in_force(tmp_path, tunnel())
    written(tmp_path, tunnel(), *tables)
    (auth,) = [each.auth for each in successor.config(config.path).tunnels]
    kept = successor.keys.take(auth.psk_file)
    assert kept is not None
    assert kept.is_same(PreSharedKey.from_file(auth.psk_file))
    assert successor.keys.take(auth.psk_file) is None


def test_of_a_successor_that_ends_before_it_has_peers_no_secret_stays(tmp_path):
    config, (ours, theirs) = configured(tmp_path, tunnel()), HandOverChannel.pair()
    key = PreSharedKey(b"somebody's")
    with theirs, contextlib.closing(Successor(ours, offer(config), [], os.close)) as successor:
        successor.config(config.path)
        successor.keys.keep(tmp_path / "another.psk", key)
    assert key.is_same(PreSharedKey(bytes(len(key))))


def test_what_was_read_is_kept_out_of_collections(tmp_path):
    """Which would look through all of ten thousand tunnels while others are made."""
    config, successor = in_force(tmp_path, tunnel())
    frozen = gc.get_freeze_count()
    got = successor.config(config.path)
    assert gc.get_freeze_count() > frozen
    assert not any(each is got for each in gc.get_objects())


def test_other_words_for_the_same_change_nothing(tmp_path):
    config, successor = in_force(tmp_path, tunnel())
    written(tmp_path, "# a comment\n", tunnel())
    found = successor.config(config.path)
    assert found.tunnels == config.tunnels
    assert found.text.startswith('[gateway]\nname = "gw"\n# a comment\n')
    assert (taken(successor, config), successor.changes) == (None, None)


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ((tunnel(remote="192.0.2.9"),), "tunnels changed: to-b"),
        ((tunnel(), TO_C), "tunnels added: to-c"),
        ((tunnel("to-c"),), "tunnels added: to-c; tunnels removed: to-b"),
        (("keep_closed = true\n", tunnel()), "changed: keep_closed"),
        (('[log]\nlevel = "debug"\n', tunnel(), DISCARD), "changed: policies, log"),
    ],
)
def test_where_it_says_something_else_what_is_in_force_goes_on_first(tmp_path, tables, says):
    config, successor = in_force(tmp_path, tunnel())
    written(tmp_path, *tables)
    found = successor.config(config.path)
    assert (found, found.text, successor.changes) == (config, config.text, says)
    then = taken(successor, found)
    assert (then.old, then.new) == (found, load(config.path))


def test_another_order_of_tunnels_is_a_change_since_it_decides(tmp_path):
    config, successor = in_force(tmp_path, tunnel(), TO_C)
    written(tmp_path, TO_C, tunnel())
    assert successor.config(config.path) == config
    assert successor.changes == "changed: the order of tunnels"


def test_a_tunnel_that_nothing_changes_for_is_kept(tmp_path):
    config, successor = in_force(tmp_path, tunnel(), TO_C)
    written(tmp_path, tunnel("to-b", "[tunnel.esp]", 'lifetime = "20m"'), TO_C)
    then = taken(successor, successor.config(config.path))
    assert ([change.keys for change in then.changed], then.kept) == ([("esp.lifetime_s",)], 1)
    assert then.new.tunnel("to-c") is then.old.tunnel("to-c")


# ---- what files hold


def test_a_secret_that_was_changed_is_noticed_though_the_file_says_the_same(tmp_path):
    """What is in force has the fingerprint of then."""
    config, successor = in_force(tmp_path, tunnel())
    (tmp_path / "x.psk").write_text(ANOTHER)
    found = successor.config(config.path)
    assert (found, successor.changes) == (config, "tunnels changed: to-b")
    assert [change.keys for change in taken(successor, found).changed] == [("auth.material",)]


def test_nothing_of_a_secret_is_offered(tmp_path):
    config, _ = in_force(tmp_path, tunnel(), TO_C)
    octets = bytes(body_of(offer(config)))
    assert b"psk_file" in octets
    assert b"a secret of some length" not in octets


def digests(count):
    return tuple(bytes([at]) * 32 for at in range(1, count + 1))


def test_a_tunnel_is_as_it_was_in_everything_that_its_files_held(tmp_path):
    config = configured(tmp_path, tunnel(), tunnel("hand", remote="192.0.2.4", interface="ipsec2", keys=MANUAL))
    psk, hand = config.tunnels
    assert isinstance(psk.auth, PskAuth)
    ppks = tuple(Ppk(id=name, file=Path(name), material=bytes(32)) for name in "ab")
    psk = replace(psk, auth=replace(psk.auth, ppks=ppks))
    certified = CertificateAuth(
        local_id=None,
        remote_id=None,
        certificate=Path("c"),
        private_key=Path("k"),
        ca=(),
        crl=(),
        revocation="off",
        ppks=ppks,
        material=bytes(64),
        ca_material=bytes(32),
        crl_material=bytes(32),
    )
    signed = replace(psk, auth=certified)
    for one, count in ((psk, 3), (hand, 2), (signed, 6)):
        then = one.written + b"".join(digests(count))
        assert known(one) != then
        assert known(as_known(one, then)) == then
        assert as_known(as_known(one, then), known(one)) == one


def test_one_that_was_known_otherwise_is_changed(tmp_path):
    """Whatever another program made of it: it is negotiated anew, and not taken for the same."""
    (one,) = configured(tmp_path, tunnel()).tunnels
    assert as_known(one, b"") != one


# ---- before anything stops


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        (("oops\n", tunnel()), "not TOML"),
        (("odd = 1\n", tunnel()), "unknown key"),
        ((tunnel(keys='  [tunnel.auth]\n  psk_file = "none"\n'),), "no such file"),
        (("workers = 2\n", tunnel()), "cannot be changed by a reload; stop the gateway"),
    ],
)
def test_what_no_reload_would_take_is_refused(tmp_path, tables, says):
    config, successor = in_force(tmp_path, tunnel())
    written(tmp_path, *tables)
    with pytest.raises(IpsecDpError, match=says):
        successor.config(config.path)


def test_a_secret_that_cannot_be_used_is_refused(tmp_path, monkeypatch):
    config, successor = in_force(tmp_path, tunnel())
    written(tmp_path, tunnel(), TO_C)
    wrong = Finding("error", "gw.toml", "", "auth", "cannot be had", "make it")
    monkeypatch.setattr(configuration, "read_peers", lambda found: ({}, [wrong] if found.added else []))
    with pytest.raises(IpsecDpError, match="cannot be had"):
        successor.config(config.path)


def test_a_key_that_this_program_has_not_any_more_takes_a_restart(tmp_path):
    config, _ = in_force(tmp_path, tunnel())
    former = replace(config, text=config.text.replace("remote", "formerly = 1\nremote"))
    successor = Successor(cast("Any", None), offer(former), [], os.close)
    with pytest.raises(IpsecDpError, match=r'cannot read the configuration that is in force.*"to-b": unknown key.*or restart'):
        successor.config(config.path)


def test_a_text_of_other_tunnels_is_not_what_is_in_force(tmp_path):
    config, _ = in_force(tmp_path, tunnel())
    successor = Successor(cast("Any", None), offer(replace(config, text="")), [], os.close)
    with pytest.raises(IpsecDpError, match="finds other tunnels in the configuration that is in force: restart"):
        successor.config(config.path)


@pytest.mark.parametrize("tables", [(tunnel(),), (tunnel(), TO_C)], ids=["the same file", "another one"])
@pytest.mark.parametrize("made_of_it", [{"workers": 2}, {"gateway": "other"}], ids=lambda made: next(iter(made)))
def test_what_the_two_programs_make_another_gateway_of_takes_a_restart(tmp_path, tables, made_of_it):
    """Where a default has changed."""
    config, _ = in_force(tmp_path, tunnel())
    successor = Successor(cast("Any", None), msgspec.structs.replace(offer(config), **made_of_it), [], os.close)
    written(tmp_path, *tables)
    with pytest.raises(IpsecDpError, match="another name or number of workers in the configuration that is in force: restart"):
        successor.config(config.path)


def test_a_file_that_only_what_is_in_force_names_has_to_be_there(tmp_path):
    config, successor = in_force(tmp_path, tunnel())
    (tmp_path / "x.psk").rename(tmp_path / "y.psk")
    written(tmp_path, tunnel().replace("x.psk", "y.psk"))
    with pytest.raises(IpsecDpError, match=r"no such file: .*x\.psk; put back what is gone, or restart"):
        successor.config(config.path)
    os.link(tmp_path / "y.psk", tmp_path / "x.psk")
    assert successor.config(config.path) == config


def test_who_opens_files_hears_first_which_ones_a_file_names(tmp_path):
    """Where it cannot be read without him."""
    config, successor = in_force(tmp_path, tunnel())
    written(tmp_path, tunnel(), TO_C.replace("x.psk", "y.psk"))
    asked = []

    def learn(request):
        asked.append(request)
        (tmp_path / "y.psk").touch(mode=0o600)
        (tmp_path / "y.psk").write_text(ANOTHER)
        return True

    assert successor.config(config.path, learn) == config
    assert successor.changes == "tunnels added: to-c"
    assert [(request.path, request.known) for request in asked] == [(config.path, successor.offer.known)]


# ---- after it


@pytest.mark.parametrize(
    ("came_of_it", "says"),
    [
        (ReloadFailedError("the kernel refuses; nothing was changed"), "the kernel refuses; nothing was changed"),
        (ReloadRefusal(file="gw.toml", findings=(Finding("error", "gw.toml", "", "", "it is gone", "put it back"),)), "it is gone"),
        (RuntimeError("a fault"), "taking the configuration file over: RuntimeError: a fault"),
    ],
    ids=["failed", "refused", "faulty"],
)
def test_what_cannot_be_taken_over_then_is_a_condition_and_nothing_ends(tmp_path, caplog, came_of_it, says):
    config, conditions = configured(tmp_path, tunnel()), Conditions(FakeClock())
    asyncio.run(take_over(config, Taken(came_of_it).of(config), conditions))
    (text,) = conditions.texts
    assert text.startswith("after an upgrade, the configuration file is not in force: ")
    assert says in text
    assert text.endswith("; `ipsec-dp reload` tries again")
    assert says in caplog.text
    conditions.become(UPGRADED, {})  # as a reload does that succeeds
    assert conditions.texts == []


# ---- what a file says goes where the gateway goes, and nowhere else


def test_the_text_of_a_file_is_kept_and_shown_by_nothing(tmp_path):
    planted = "hunter2 was the password"
    config = configured(tmp_path, f"# {planted}\n", tunnel())
    assert planted in config.text
    for shown in (repr(config), str(config), repr(offer(config)), str(config.tunnels)):
        assert planted not in shown
    again, _ = examine_text(config.text, config.path)
    assert again == config
