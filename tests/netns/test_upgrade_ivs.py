"""The capture of a whole run with upgrades and rekeys, opened with the keys that the gateway wrote down: no IV seals twice.

hostA eth0 -- lan gwA wan == wan gwB lan -- eth0 hostB
"""

from __future__ import annotations

import csv
from collections import Counter
from functools import partial

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.payloads import Encrypted, EncryptedFragment
from ipsec_dp.keying.wireshark import ESP_TABLE, IKE_TABLE
from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.process import IkePair
from tests.netns import harness
from tests.netns.numbered import numbered
from tests.netns.outer_packets import EspInUdp, packets
from tests.netns.succession import flows
from tests.netns.traffic import until

KEYS = "keys"  # below the directory of the configuration
SALT, IV = 4, 8  # octets (RFC 4106 §4, RFC 5282 §3)
UPPER = bytes(4)  # of the sequence numbers, which stay below 2^32
SPI, SPIS = 4, 17  # octets of the name of a key: an SPI of ESP; both of an IKE SA and a direction
ASKED = (("IKE SA rekeyed [", True), ("CHILD_SA rekeyed [", False))  # what is told of a rekey, whether it is of the IKE SA
EACH = 3  # SAs of IKE and of ESP: the first, and one after a rekey by each gateway
PAIR = IkePair(
    encapsulation="udp",
    gateway=f'keylog_file = "{KEYS}"',
    ike=('proposals = ["aes128gcm16-prfsha256-x25519"]',) * 2,
    esp=('proposals = ["aes128gcm16-x25519-esn"]',) * 2,
)


class Opened:
    """What was sealed, by (SPI or SPIs and direction, IV), and what it was twice. Whatever no key opens raises InvalidTag."""

    def __init__(self, directory):
        with (directory / ESP_TABLE).open() as file:
            self._esp = {int(spi, 16): bytes.fromhex(key[2:]) for _, _, _, spi, _, key, *_ in csv.reader(file)}
        with (directory / IKE_TABLE).open() as file:
            self._ike = {bytes.fromhex(i + r): (bytes.fromhex(ei), bytes.fromhex(er)) for i, r, ei, er, *_ in csv.reader(file)}
        self.contents, self.twice = {}, []

    def put(self, by, key, iv, sealed, covered):
        content = AESGCM(key[:-SALT]).decrypt(key[-SALT:] + iv, sealed, covered)
        if self.contents.setdefault((by, iv), content) != content:
            self.twice.append((by, iv))

    def esp(self, octets):
        spi, sequence, iv = octets[:4], octets[4:8], octets[8 : 8 + IV]
        self.put(spi, self._esp[int.from_bytes(spi, "big")], iv, octets[8 + IV :], spi + UPPER + sequence)

    def ike(self, message):
        parsed = parse_message(message.octets)
        payload = parsed.get(Encrypted) or parsed.get(EncryptedFragment)
        if payload is not None:
            sealed, key = bytes(payload.data), self._ike[message.spis][not message.from_initiator]
            by = message.spis + bytes([message.from_initiator])
            self.put(by, key, sealed[:IV], sealed[IV:], message.octets[: -len(sealed)])

    def by(self, octets):
        """How many IVs there are of each key of ESP or of IKE, whose names have so many octets."""
        return Counter(by for by, _ in self.contents if len(by) == octets)


def is_told_more(gateway, told, often):
    return gateway.text().count(told) > often


def rekeys(gateway):
    """Of the IKE SA, and of the CHILD_SA in the new one."""
    (tunnel,) = gateway.status()["tunnels"]
    for told, ike in ASKED:
        before = gateway.text().count(told)
        gateway.ask("rekey", name=tunnel["name"], ike=ike)
        until(partial(is_told_more, gateway, told, before), told)


def test_no_iv_comes_twice_with_two_contents(sites_opened_again, in_succession, tmp_path):
    sites = sites_opened_again
    for gateway in (sites.gw_a, sites.gw_b):
        gateway.run("ethtool", "-K", "wan", "tx-udp-segmentation", "off")  # each packet is seen by itself
    with capture.Capture(sites.gw_a, "wan", tmp_path / "wan") as recording:
        gateways = in_succession(PAIR)
        with (
            numbered(sites.host_a, sites.host_b, netns.HOST_B[0], pause_s=0.001) as there,
            numbered(sites.host_b, sites.host_a, netns.HOST_A[0], pause_s=0.001) as back,
        ):
            until(lambda: there.arrived and back.arrived, "both streams")
            for who in (gateways.a, gateways.b):
                gateways.upgrade()
                gateways.answers()
                flows(there, back)
                rekeys(who)
                gateways.upgrade()
                gateways.answers()
                flows(there, back)
        harness.settle(sites.gw_a, "wan")
        assert recording.stop().lost == 0
    opened = Opened(tmp_path / KEYS)
    for packet in packets(recording.path):
        opened.esp(packet.octets) if isinstance(packet, EspInUdp) else opened.ike(packet)
    assert opened.twice == []
    assert [each.lost() for each in (there, back)] == [[], []]
    esp, ike = opened.by(SPI), opened.by(SPIS)
    assert esp.total() >= len(there.arrived) + len(back.arrived)
    assert (len(esp), len(ike)) == (2 * EACH, 2 * EACH)  # in both directions
