"""PPKs and `post_quantum` in the configuration: what they mean for a tunnel, and what `check` refuses."""

from __future__ import annotations

import pytest

from ipsec_dp.config.change import compare
from ipsec_dp.config.difference import known
from ipsec_dp.config.load import examine, load
from ipsec_dp.databases.pad import peer_of
from ipsec_dp.ike import kem
from ipsec_dp.ike.effect import Effect
from ipsec_dp.ike.post_quantum import assured
from ipsec_dp.ike.proposal import CLASSIC_IKE, DEFAULT_IKE, parse_ike
from tests.unit.test_config_ikev1 import PSK, V1, written

NAMED = f'{PSK}\nppk_id = "one"\nppk_file = "one.ppk"'
REQUIRED = 'post_quantum = "required"'
ADDED = 'proposals = ["aes256gcm16-prfsha384-x25519-ke1_mlkem768"]'
WITHOUT = 'proposals = ["aes256gcm16-prfsha384-x25519"]'


def file_of(directory, auth=NAMED, ike="", octets=32, mode=0o600):
    for name in ("one.ppk", "two.ppk"):
        secret = directory / name
        secret.unlink(missing_ok=True)
        secret.touch(mode=mode)
        secret.write_text("0x" + (name.encode() + bytes(octets))[:octets].hex())
    return written(directory, auth=auth, ike=ike)


def findings(directory, severity="error", **texts):
    _, found = examine(file_of(directory, **texts))
    return {one.key: f"{one.wrong}; {one.right}" for one in found if one.severity == severity}


def peer(directory, **texts):
    return peer_of(load(file_of(directory, **texts)).tunnel("to-b"))


def test_a_tunnel_has_none_unless_it_names_one(tmp_path):
    found = peer(tmp_path, auth=PSK)
    assert (found.ppks, found.needs_ppk, found.post_quantum) == ((), False, "preferred")


def test_one_is_required_unless_something_else_is_said(tmp_path):
    found = peer(tmp_path)
    assert [(one.id, one.key.octets()[:7]) for one in found.ppks] == [(b"one", b"one.ppk")]
    assert found.needs_ppk
    assert not peer(tmp_path, auth=f'{NAMED}\nppk = "if-offered"').needs_ppk


def test_there_may_be_several_by_name_or_by_octets(tmp_path):
    further = '[[tunnel.auth.other_ppk]]\nppk_id = "0x00ff"\nppk_file = "two.ppk"'
    assert [one.id for one in peer(tmp_path, auth=f"{NAMED}\n{further}").ppks] == [b"one", b"\0\xff"]


@pytest.mark.parametrize(
    ("auth", "key", "said"),
    [
        (f'{PSK}\nppk_id = "one"', "auth.ppk_file", "belong together"),
        (f'{PSK}\nppk_file = "one.ppk"', "auth.ppk_id", "belong together"),
        (f'{PSK}\nppk = "required"', "auth.ppk", "without ppk_id"),
        (f'{PSK}\n[[tunnel.auth.other_ppk]]\nppk_id = "a"\nppk_file = "one.ppk"', "auth.other_ppk", "without ppk_id"),
        (f'{PSK}\nppk_id = ""\nppk_file = "one.ppk"', "auth.ppk_id", "no name of a PPK"),
        (f'{PSK}\nppk_id = "0xf"\nppk_file = "one.ppk"', "auth.ppk_id", "no name of a PPK"),
        (f'{PSK}\nppk_id = "{"a" * 256}"\nppk_file = "one.ppk"', "auth.ppk_id", "255 at the most"),
        (f'{PSK}\nppk_id = "one"\nppk_file = "none.ppk"', "auth.ppk_file", "no such file"),
        (f'{NAMED}\n[[tunnel.auth.other_ppk]]\nppk_id = "one"\nppk_file = "two.ppk"', "auth.other_ppk #1.ppk_id", "listed twice"),
    ],
)
def test_what_is_no_ppk_is_refused(tmp_path, auth, key, said):
    assert said in findings(tmp_path, auth=auth)[key]


def test_more_than_a_peer_is_offered_are_refused(tmp_path):
    further = [f'[[tunnel.auth.other_ppk]]\nppk_id = "name {number}"\nppk_file = "two.ppk"' for number in range(8)]
    assert findings(tmp_path, auth="\n".join([NAMED, *further[:-1]])) == {}
    assert "8 at the most" in findings(tmp_path, auth="\n".join([NAMED, *further]))["auth.other_ppk"]


def test_a_ppk_of_less_than_32_octets_is_refused_and_the_reason_is_told(tmp_path):
    assert findings(tmp_path) == {}
    assert "try offline which PPK it was (RFC 9867)" in findings(tmp_path, octets=31)["auth.ppk_file"]


def test_its_file_is_a_secret(tmp_path):
    assert "not only its owner can use it" in findings(tmp_path, mode=0o640)["auth.ppk_file"]


@pytest.mark.parametrize(
    ("ike", "auth", "key"),
    [
        (V1, NAMED, "auth.ppk_id"),
        (f"{V1}\n{REQUIRED}", PSK, "ike.post_quantum"),
        ('version = "2-preferred"', NAMED, "ike.version"),
        (f'version = "2-preferred"\n{REQUIRED}\n{ADDED}', PSK, "ike.version"),
    ],
)
def test_ikev1_has_nothing_of_it(tmp_path, ike, auth, key):
    assert key in findings(tmp_path, ike=ike, auth=auth)


def test_a_ppk_that_need_not_be_lets_a_tunnel_fall(tmp_path):
    found = peer(tmp_path, ike='version = "2-preferred"', auth=f'{NAMED}\nppk = "if-offered"')
    assert found.fallback.ppks == ()


@pytest.mark.parametrize("words", ["x25519", "x25519-ke1_ecp256", "x25519-ke1_mlkem768-ke1_none", "x25519-ke1_mlkem768-ke1_ecp256"])
def test_required_refuses_a_proposal_that_can_be_taken_without(tmp_path, words):
    ike = f'{REQUIRED}\nproposals = ["aes256gcm16-prfsha384-{words}"]'
    assert "can be agreed on without ML-KEM" in findings(tmp_path, ike=ike, auth=PSK)["ike.proposals"]
    assert findings(tmp_path, ike=ike) == {}  # a PPK by RFC 9867 is as good
    assert findings(tmp_path, ike=f"{REQUIRED}\n{ADDED}", auth=PSK) == {}


def test_required_keeps_the_default_proposals_that_fulfil_it(tmp_path):
    assert peer(tmp_path, ike=REQUIRED, auth=PSK).ike_proposals == parse_ike(DEFAULT_IKE[:1])
    assert all(map(assured, parse_ike(DEFAULT_IKE[:1])))


LACK = "this build of cryptography has no ML-KEM"


@pytest.fixture
def without_ml_kem(monkeypatch):
    monkeypatch.setattr(kem, "lack", lambda method: LACK if method.ciphertext else None)


@pytest.mark.parametrize("ike", ["", 'version = "2-preferred"', 'lifetime = "2h"'])
def test_the_defaults_begin_with_ml_kem_where_nothing_is_written(tmp_path, ike):
    found = peer(tmp_path, auth=PSK, ike=ike)
    assert (found.ike_proposals, found.by_default) == (parse_ike(DEFAULT_IKE), True)
    assert not peer(tmp_path, auth=PSK, ike=ADDED).by_default


@pytest.mark.usefixtures("without_ml_kem")
def test_a_host_without_ml_kem_falls_back_to_what_it_has(tmp_path):
    assert findings(tmp_path, auth=PSK) == findings(tmp_path, "warning", auth=PSK) == {}
    assert peer(tmp_path, auth=PSK).ike_proposals == parse_ike(CLASSIC_IKE)


@pytest.mark.usefixtures("without_ml_kem")
@pytest.mark.parametrize("ike", ['proposals = ["aes128gcm16-prfsha512-ecp521-ke1_mlkem768"]', REQUIRED])
def test_a_host_without_ml_kem_refuses_what_cannot_be_without_it(tmp_path, ike):
    assert "ike.proposals" in findings(tmp_path, auth=PSK, ike=ike)


def test_a_method_that_stands_beside_another_is_not_assured():
    assert assured(*parse_ike(["aes128gcm16-prfsha256-x25519-ke1_ecp256-ke2_mlkem1024"]))
    assert not assured(*parse_ike(["aes128gcm16-prfsha256-x25519"]))


@pytest.mark.parametrize(
    ("after", "effect"),
    [
        ({}, None),
        ({"octets": 40}, Effect.RESTART),
        ({"auth": f'{NAMED}\nppk = "if-offered"'}, Effect.RESTART),
        ({"auth": PSK}, Effect.RESTART),
        ({"ike": REQUIRED}, Effect.RESTART),
    ],
)
def test_another_ppk_or_demand_begins_the_tunnel_anew(tmp_path, after, effect):
    before = load(file_of(tmp_path)).tunnel("to-b")
    change = compare(before, load(file_of(tmp_path, **after)).tunnel("to-b"))
    assert (None if change is None else change.effect) is effect


def test_another_file_with_the_same_ppk_changes_nothing(tmp_path):
    before = load(file_of(tmp_path)).tunnel("to-b")
    path = file_of(tmp_path)
    (tmp_path / "one.ppk").rename(tmp_path / "moved.ppk")
    path.write_text(path.read_text().replace("one.ppk", "moved.ppk"))
    assert compare(before, load(path).tunnel("to-b")) is None


def test_another_ppk_in_the_same_file_is_another_tunnel_to_a_reload(tmp_path):
    path = file_of(tmp_path)
    old = load(path).tunnel("to-b")
    assert known(load(path).tunnel("to-b")) == known(old)
    (tmp_path / "one.ppk").write_text("0x" + bytes(range(32)).hex())
    new = load(path).tunnel("to-b")
    assert known(new) != known(old), "or the process that reads it again says that nothing has changed"
    change = compare(old, new)
    assert change is not None
    assert change.effect is Effect.RESTART
