"""Proposals in strongSwan's keywords."""

from __future__ import annotations

import pytest

from ipsec_dp.errors import BadValueError
from ipsec_dp.proposals import Group, Prf, parse_esp_proposal, parse_ike_proposal
from ipsec_dp.suites import Encr, Integ


@pytest.mark.parametrize(
    ("text", "encr", "key", "integ", "prf", "group"),
    [
        ("aes256gcm16-prfsha384-ecp384", Encr.AES_GCM_16, 32, Integ.NONE, Prf.HMAC_SHA2_384, Group.ECP_384),
        ("aes128gcm16-prfsha256-x25519", Encr.AES_GCM_16, 16, Integ.NONE, Prf.HMAC_SHA2_256, Group.CURVE25519),
        ("aes128-sha256-modp2048", Encr.AES_CBC, 16, Integ.HMAC_SHA2_256_128, Prf.HMAC_SHA2_256, Group.MODP_2048),
        ("aes256-sha512-prfsha256-ecp521", Encr.AES_CBC, 32, Integ.HMAC_SHA2_512_256, Prf.HMAC_SHA2_256, Group.ECP_521),
        ("chacha20poly1305-prfsha512-curve25519", Encr.CHACHA20_POLY1305, 32, Integ.NONE, Prf.HMAC_SHA2_512, Group.CURVE25519),
        ("aes128-sha1-modp3072", Encr.AES_CBC, 16, Integ.HMAC_SHA1_96, Prf.HMAC_SHA1, Group.MODP_3072),
    ],
)
def test_an_ike_proposal_names_its_four_transforms(text, encr, key, integ, prf, group):
    made = parse_ike_proposal(text, legacy=False)
    assert (made.encr, made.key_octets, made.integ, made.prf, made.group, made.keywords) == (encr, key, integ, prf, group, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("aes256gcm16-ecp384", "names no PRF"),
        ("aes256gcm16-prfsha384", "names no group"),
        ("aes256-modp2048", "without integrity"),
        ("3des-sha1-modp2048", 'unknown keyword "3des"'),
        ("aes128-sha256-modp1024", "RFC 8247.*legacy = true"),
        ("aes128-sha256-modp1536", "RFC 8247.*legacy = true"),
    ],
)
def test_an_ike_proposal_that_is_none_is_refused(text, says):
    with pytest.raises(BadValueError, match=says):
        parse_ike_proposal(text, legacy=False)


@pytest.mark.parametrize(("keyword", "group"), [("modp1024", Group.MODP_1024), ("modp1536", Group.MODP_1536)])
def test_weak_groups_are_there_for_those_who_say_legacy(keyword, group):
    assert parse_ike_proposal(f"aes128-sha1-{keyword}", legacy=True).group is group
    assert parse_esp_proposal(f"aes128-sha1-{keyword}", legacy=True).group is group


def test_an_esp_proposal_is_a_suite_and_maybe_a_group():
    made = parse_esp_proposal("aes128-sha256-x25519-esn", legacy=False)
    assert (str(made.suite), made.group) == ("aes128-sha256-esn", Group.CURVE25519)
    assert parse_esp_proposal("aes256gcm16", legacy=False).group is None
    with pytest.raises(BadValueError, match="legacy = true"):
        parse_esp_proposal("aes128-sha256-modp1024", legacy=False)
