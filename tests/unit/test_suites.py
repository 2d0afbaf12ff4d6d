"""ESP suites: keywords, numbers, and the arithmetic of the MTU."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipsec_dp.errors import BadValueError
from ipsec_dp.ipsec.suites import Encr, Integ, datagram_octets, esp_overhead, inner_mtu, parse_suite

# keyword, transform type 1, key octets, transform type 3, KEYMAT octets, IV, block, ICV
SUITES = [
    ("aes128gcm16", Encr.AES_GCM_16, 16, Integ.NONE, 20, 8, 1, 16),
    ("aes192gcm16", Encr.AES_GCM_16, 24, Integ.NONE, 28, 8, 1, 16),
    ("aes256gcm16", Encr.AES_GCM_16, 32, Integ.NONE, 36, 8, 1, 16),
    ("chacha20poly1305", Encr.CHACHA20_POLY1305, 32, Integ.NONE, 36, 8, 1, 16),
    ("aes128-sha1", Encr.AES_CBC, 16, Integ.HMAC_SHA1_96, 36, 16, 16, 12),
    ("aes128-sha256", Encr.AES_CBC, 16, Integ.HMAC_SHA2_256_128, 48, 16, 16, 16),
    ("aes192-sha384", Encr.AES_CBC, 24, Integ.HMAC_SHA2_384_192, 72, 16, 16, 24),
    ("aes256-sha512", Encr.AES_CBC, 32, Integ.HMAC_SHA2_512_256, 96, 16, 16, 32),
]


@pytest.mark.parametrize(("keyword", "encr", "key", "integ", "keymat", "iv", "block", "icv"), SUITES)
@pytest.mark.parametrize("esn", [False, True])
def test_a_keyword_names_transforms_and_their_octets(keyword, encr, key, integ, keymat, iv, block, icv, esn):
    suite = parse_suite(f"{keyword}-esn" if esn else keyword)
    assert (suite.encr, suite.key_octets, suite.integ, suite.esn) == (encr, key, integ, esn)
    assert (suite.keymat_octets, suite.iv_octets, suite.block_octets, suite.icv_octets) == (keymat, iv, block, icv)
    assert suite.aead is (integ is Integ.NONE)
    assert suite.keyword == keyword


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("aes128gcm", 'unknown keyword "aes128gcm".*aes128gcm16'),
        ("aes128", "without integrity.*aes128-sha256"),
        ("aes128gcm16-sha256", "integrity to an AEAD"),
        ("sha256", "not one suite"),
        ("aes128gcm16-aes256gcm16", "not one suite"),
        ("aes128gcm16-esn-noesn", "not one suite"),
        ("aes128gcm16-x25519", 'unknown keyword "x25519"'),
        ("", 'unknown keyword ""'),
    ],
)
def test_a_keyword_that_names_no_suite_is_refused_with_what_would_be_right(text, says):
    with pytest.raises(BadValueError, match=says):
        parse_suite(text)


# suite, encapsulation, outer version, outer MTU, inner MTU; worked out by hand from RFC 4303 §2
MTUS = [
    ("aes128gcm16", "udp", 4, 1500, 1438),  # 1500 - 20 - 8 - 8 - 8 - 16 = 1440, less the trailer
    ("aes128gcm16", "esp", 4, 1500, 1446),
    ("aes128gcm16", "udp", 6, 1500, 1418),
    ("aes256-sha512", "esp", 6, 1500, 1390),  # 1500 - 40 - 8 - 16 - 32 = 1404, 87 blocks of 16, less the trailer
    ("aes128-sha1", "udp", 4, 1280, 1214),  # 1280 - 20 - 8 - 8 - 16 - 12 = 1216 = 76 blocks
]


@pytest.mark.parametrize(("keyword", "encapsulation", "version", "outer", "inner"), MTUS)
def test_the_inner_mtu_is_what_the_rfc_leaves(keyword, encapsulation, version, outer, inner):
    assert inner_mtu(outer, parse_suite(keyword), encapsulation, version) == inner


@settings(deadline=None)
@given(
    st.sampled_from([row[0] for row in SUITES]),
    st.sampled_from(["udp", "esp"]),
    st.sampled_from([4, 6]),
    st.integers(min_value=200, max_value=65535),
)
def test_the_inner_mtu_is_the_largest_packet_that_fits(keyword, encapsulation, version, outer):
    suite = parse_suite(keyword)
    inner = inner_mtu(outer, suite, encapsulation, version)
    assert (
        datagram_octets(inner, suite, encapsulation, version) <= outer < datagram_octets(inner + 1, suite, encapsulation, version)
    )
    assert datagram_octets(inner, suite, encapsulation, version) == inner + esp_overhead(suite, encapsulation, version)


def test_an_outer_mtu_without_room_is_an_error():
    with pytest.raises(ValueError, match="no room"):
        inner_mtu(60, parse_suite("aes128gcm16"), "udp", 4)
