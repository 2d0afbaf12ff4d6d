"""ESP with every field in the caller's hand, against the data plane: what one seals the other opens, in every suite."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipsec_dp.dataplane import Encapsulation
from ipsec_dp.ike.proposal import parse_esp
from ipsec_dp.ike.suites import esp_suite
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.gateway import keymat, pair
from ipsec_dp.rig.odd_esp import EspDirection, EspError, monotonic
from ipsec_dp.rig.packets import udp

SUITES = [
    f"{cipher}-{numbers}"
    for cipher in ("aes128gcm16", "aes256gcm16", "chacha20poly1305", "aes128-sha256", "aes256-sha512", "aes256-sha1")
    for numbers in ("noesn", "esn")
]
TO_B = udp("10.1.0.1", "10.2.0.1", b"to b")


def direction(text, site, name):
    """The SA by which gateway `name` of a pair receives, as an odd peer has it."""
    suite, keys = esp_suite(parse_esp([text])[0]), keymat(parse_suite(text), f"to {name} 1")
    octets = suite.encryption.key + suite.encryption.salt
    return EspDirection(suite, site.spis[name].to_bytes(4, "big"), keys[:octets], keys[octets:])


@pytest.mark.parametrize("suite", SUITES)
def test_what_the_data_plane_seals_opens(suite):
    with pair(suite, encapsulation=Encapsulation.UDP) as site:
        site.a.push(TO_B)
        site.a.step()
        (sent,) = site.a.sent()
        opened = direction(suite, site, "b").open(bytes(sent.data))
    assert (opened.payload, opened.sequence, opened.next_header) == (TO_B, 1, 4)
    assert opened.padding == monotonic(len(opened.padding))


@pytest.mark.parametrize("suite", SUITES)
def test_the_data_plane_opens_what_it_seals(suite):
    with pair(suite, encapsulation=Encapsulation.UDP) as site:
        site.a.push(TO_B)
        site.a.step()
        (sent,) = site.a.sent()
        site.b.arrive(replace(sent, data=direction(suite, site, "b").seal(TO_B, 7), local=None, remote=site.a.endpoint))
        site.b.step()
        assert site.b.pulled() == [TO_B]


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_not_right_does_not_open(suite):
    with pair(suite) as site:
        one = direction(suite, site, "b")
        packet = one.seal(TO_B, 1)
        assert one.open(packet).payload == TO_B
        for wrong in (packet[:-1] + bytes([packet[-1] ^ 1]), packet[:12], packet[:8], bytes(4) + packet[4:], b""):
            with pytest.raises(EspError):
                one.open(wrong)
