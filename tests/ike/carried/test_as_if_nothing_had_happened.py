"""A life in which a site is carried after each of its steps is, octet by octet, that in which it is not; and no SK IV comes twice.

Main and quick modes, rekeys in turn and crossing, series of additional key exchanges, fragments, PPKs, a wire
that loses long datagrams; the rest is in `test_every_ladder`.
"""

from __future__ import annotations

from typing import Any

import pytest

from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.peer import Life, Liveness
from ipsec_dp.ike.ppk import Ppk
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.ike.v2.message import parse_message
from ipsec_dp.ike.v2.payloads import Encrypted, EncryptedFragment
from ipsec_dp.ike.v2.wire import ExchangeType
from tests.ike.carried.carrying import carried_at_every_step
from tests.ike.fault_script import live
from tests.ike.ladder import Ladder, peer
from tests.ike.test_ladder_shorter import octets
from tests.ike.v1.gateways import Gateways, aggressive
from tests.ike.v1.gateways import peer as peer_v1

SHARED = Ppk(b"ours", PreSharedKey(b"a post-quantum key of 32 octets!!"))
IN_TIME = {"child_life": Life(25.0), "ike_life": Life(90.0), "liveness": Liveness(5.0, 3)}
LIVES: dict[str, dict[str, Any]] = {
    "plain": {},
    "limits": IN_TIME,
    "pfs": {"esp_proposals": parse_esp(["aes256gcm16-ecp384-esn"]), "ike_proposals": parse_ike(["aes256-sha384-modp2048"])},
    "series": {
        "ike_proposals": parse_ike(["aes128gcm16-prfsha256-x25519-ke1_ecp256-ke2_ecp384"]),
        "esp_proposals": parse_esp(["aes128gcm16-x25519-ke1_ecp256"]),
    },
    "fragments": {"datagram": 200},
    "ppk": {"ppks": (SHARED,)},
    "narrow": {
        "ike_proposals": parse_ike(["aes128gcm16-prfsha256-modp4096"]),
        "esp_proposals": parse_esp(["aes128gcm16-modp4096"]),
    },
}
MOST = 600  # octets of IP datagram that pass, once the wire is narrow; a value of ML-KEM is of nobody's randomness here


class Narrowing(Ladder):
    """From the first rekey on the wire loses long datagrams, and every seventh of the others."""

    def __init__(self, a, b, seed):
        super().__init__(a, b, seed=seed)
        self.passed, self.narrow_at = 0, self.clock() + 15
        for site in self.sites.values():
            site.wire = self

    def send(self, sender, receiver, data):
        narrow = self.clock() > self.narrow_at
        self.passed += narrow and octets(*data) <= MOST
        if not narrow or (octets(*data) <= MOST and self.passed % 7):
            self.wire.send(sender, receiver, data)


def life(make, peers, first, *, crossing):
    """What crossed the wire, what the data planes did, and what was told."""
    ladder = make(*peers, seed=7)
    live(ladder, first, crossing=crossing, between=20, after=60)
    ladder.check()
    wire = [(delivery.sender, *delivery.data) for delivery, _ in ladder.wire.log]
    return wire, [(site.sad.log, [str(event) for event in site.events]) for site in ladder.sites.values()]


def same(monkeypatch, site, make, peers, first, *, crossing):
    expected = life(make, peers, first, crossing=crossing)
    with carried_at_every_step(monkeypatch, site) as times:
        found = life(make, peers, first, crossing=crossing)
    assert times[0] > 10
    assert found == expected
    return found[0]


def sealed_twice(wire):
    """(SPIs, direction, IV) of protected messages with two contents; each IKE_INTERMEDIATE makes other keys of the same SA."""
    found: dict[tuple[bytes, bytes, bool, bytes], bytes] = {}
    twice = []
    for _, datagram, _ in wire:
        message = parse_message(datagram)
        sealed = message.get(Encrypted) or message.get(EncryptedFragment)
        if sealed is not None and message.header.exchange != ExchangeType.IKE_INTERMEDIATE:
            key = (message.header.spi_i, message.header.spi_r, message.header.from_initiator, bytes(sealed.data[:8]))
            if found.setdefault(key, datagram) != datagram:
                twice.append(key)
    return twice


@pytest.mark.parametrize("crossing", [False, True], ids=["in-turn", "crossing"])
@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("kind", LIVES)
def test_ikev2(monkeypatch, kind, site, first, crossing):
    peers = [peer("a", **LIVES[kind])], [peer("b", **LIVES[kind])]
    wire = same(monkeypatch, site, Narrowing if kind == "narrow" else Ladder, peers, first, crossing=crossing)
    assert sealed_twice(wire) == []


@pytest.mark.parametrize("crossing", [False, True], ids=["in-turn", "crossing"])
@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("mode", [peer_v1, aggressive], ids=["main", "aggressive"])
def test_ikev1(monkeypatch, mode, site, crossing):
    changes = {"esp_proposals": parse_esp(["aes128gcm16-x25519"]), "child_life": Life(40.0), "liveness": Liveness(5.0, 3)}
    peers = [mode("a", **changes)], [mode("b", **changes)]
    same(monkeypatch, site, Gateways, peers, "a", crossing=crossing)


def test_an_iv_that_comes_twice_is_found():
    ladder = Ladder().up()
    (sent,) = [one for one in ladder.wire.log if one[0].data[0][18] == 35 and one[0].sender == "a"]
    datagram, path = sent[0].data
    other = datagram[:-1] + bytes([datagram[-1] ^ 1])
    assert len(sealed_twice([("a", datagram, path), ("a", other, path)])) == 1
