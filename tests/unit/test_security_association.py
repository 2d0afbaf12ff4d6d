"""One SA by itself, as rigs use it: whether it is ESP, what it crafts, what its window does, and what of bursts."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ipsec_dp.dataplane import MemoryDatagram, Provider
from ipsec_dp.dataplane.lone import lone_keys
from ipsec_dp.errors import BadValueError
from ipsec_dp.ipsec.suites import Encr, Integ, Suite, parse_suite
from ipsec_dp.rig.gateway import keymat, pair
from ipsec_dp.rig.security_association import SecurityAssociation
from tests.unit.lone_peer import SUITES, LonePeer, trailer_off
from tests.unit.lone_sas import PACKETS, SPI, key, reason, reasons, refused, sa_of
from tests.unit.sites import padded, to_a, to_b

VECTORS = Path(__file__).parents[1] / "vectors" / "esp.txt"


@pytest.fixture
def sa():
    with sa_of() as made:
        yield made


# ---- it is ESP


@pytest.mark.parametrize("suite", SUITES)
def test_an_independent_implementation_opens_what_it_seals_and_the_other_way_round(suite):
    last = 2**32 - 3 if suite.endswith("-esn") else 6
    peer = LonePeer(parse_suite(suite), key(suite), SPI)
    with sa_of(suite, sequence=last) as sa:
        sa.highest = last
        for number, packet in enumerate(PACKETS, last + 1):
            assert trailer_off(peer.open(sa.seal(packet), number)) == (packet, 4)
            opened = sa.open(peer.seal(padded(packet, 4, bytes(range(1, 1 + -(len(packet) + 2) % 16))), number))
            assert (opened.packet, opened.sequence, opened.next_header) == (packet, number, 4)


NUMBERS = {f"DP_{kind.__name__.upper()}_{each.name}": int(each) for kind in (Encr, Integ) for each in kind}


def vectors() -> list[tuple[str, Suite, int, int, int, bytes, bytes, bytes]]:
    found = []
    for text in re.findall(r"^ESP\((.*?)\)$", VECTORS.read_text(), re.MULTILINE | re.DOTALL):
        source, *strings = re.findall(r'"([^"]*)"', text)
        keys, _, inner, packet = map(bytes.fromhex, strings)
        words = [word.strip() for word in re.sub(r'"[^"]*"', "", text).split(",")[1:8]]
        encr, integ, octets, esn, spi, sequence, header = (NUMBERS[word] if word in NUMBERS else int(word, 0) for word in words)
        found.append((source, Suite(Encr(encr), octets, Integ(integ), bool(esn)), spi, sequence, header, keys, inner, packet))
    return found


@pytest.mark.parametrize(("source", "suite", "spi", "sequence", "header", "keys", "inner", "packet"), vectors())
def test_the_published_packets_open(source, suite, spi, sequence, header, keys, inner, packet):
    with SecurityAssociation(suite, keys, spi=spi) as sa:
        sa.highest = max(sequence - 1, 0)
        opened = sa.open(packet, raw=True)
        assert (opened.packet[: len(inner)], opened.sequence, opened.next_header) == (inner, sequence, header)


def test_a_gateway_opens_what_it_seals_and_it_opens_what_a_gateway_seals():
    with (
        pair("aes256-sha384-esn") as site,
        SecurityAssociation(site.suite, keymat(site.suite, "to b 1"), spi=site.spis["b"]) as to_them,
        SecurityAssociation(site.suite, keymat(site.suite, "to a 1"), spi=site.spis["a"]) as from_them,
    ):
        site.b.arrive(MemoryDatagram(to_them.seal(to_b()), site.b.endpoint, site.a.endpoint))
        site.b.push(to_a())
        site.b.step()
        assert site.b.pulled() == [to_b()]
        assert [from_them.open(datagram.data).packet for datagram in site.b.sent()] == [to_a()]


def test_ipv6_is_known_by_its_version(sa):
    opened = sa.open(sa.seal(to_b(version=6)))
    assert (opened.packet, opened.next_header) == (to_b(version=6), 41)


def test_tfc_padding_makes_all_alike_and_goes_again():
    with sa_of(tfc_octets=500) as sa:
        sealed = [sa.seal(packet) for packet in PACKETS[:4]]
        assert {len(packet) for packet in sealed} == {8 + 8 + 504 + 16}
        assert [sa.open(packet).packet for packet in sealed] == PACKETS[:4]


# ---- sequence numbers


def test_numbers_count_and_an_explicit_one_does_not_move_them(sa):
    numbers = [sa.open(sa.seal(to_b(), sequence=given), look=True).sequence for given in (None, None, 1000, None)]
    assert numbers == [1, 2, 1000, 3]
    sa.sequence = 99
    assert sa.open(sa.seal(to_b())).sequence == 100 == sa.sequence


def test_the_last_number_is_the_last(sa):
    sa.sequence = 2**32 - 2
    sa.highest = 2**32 - 10
    assert sa.open(sa.seal(to_b())).sequence == 2**32 - 1
    assert reason(sa.seal, to_b()) == "sequence_exhausted"
    assert reasons(sa.seal_burst([to_b()], sequences=np.array([2**32], np.uint64))) == ["sequence_exhausted"]


def test_extended_numbers_go_on_and_their_high_half_is_inferred():
    with sa_of("aes128gcm16-esn", sequence=2**32 - 2) as sa:
        sa.highest = 2**32 - 2
        assert [sa.open(sa.seal(to_b())).sequence for _ in range(3)] == [2**32 - 1, 2**32, 2**32 + 1]
        assert sa.highest == 2**32 + 1


def test_numbers_that_a_suite_has_not_are_refused(sa):
    for wrong in (-1, 2**32):
        with pytest.raises(ValueError, match="a sequence number is 0 to 4294967295"):
            sa.sequence = wrong
        with pytest.raises(ValueError, match="a sequence number"):
            sa.highest = wrong
        with pytest.raises(ValueError, match="a sequence number"):
            sa.seal(to_b(), sequence=wrong)
    assert (sa.sequence, sa.highest) == (0, 0)


# ---- the window


def test_a_packet_opens_once_and_as_often_as_one_only_looks(sa):
    packet = sa.seal(to_b())
    assert [sa.open(packet, look=True).packet for _ in range(2)] == [to_b()] * 2
    assert sa.highest == 0
    assert sa.open(packet).packet == to_b()
    assert (reason(sa.open, packet), reason(sa.open, packet, look=True), sa.highest) == ("replay", "replay", 1)


def test_behind_the_window_is_too_old_and_what_is_forged_moves_nothing():
    with sa_of(replay_window=64) as sa:
        packets = {number: sa.seal(to_b(), sequence=number) for number in (1, 36, 37, 100)}
        spoilt = packets[100][:-1] + bytes([packets[100][-1] ^ 1])
        assert (reason(sa.open, spoilt), sa.highest) == ("icv", 0)
        sa.open(packets[100])
        assert [reason(sa.open, packets[number]) for number in (1, 36)] == ["too_old", "too_old"]
        assert sa.open(packets[37]).sequence == 37
        sa.highest = 0
        assert sa.open(packets[1]).sequence == 1


# ---- crafting


@pytest.mark.parametrize("suite", ["aes128gcm16", "aes256-sha512-esn"])
def test_every_field_can_be_wrong(suite):
    with sa_of(suite) as sa:
        full = -(28 + 2) % sa.alignment
        cases = {
            "ok": sa.craft(to_b()),
            "icv": sa.craft(to_b(), icv=bytes(sa.suite.icv_octets)),
            "pad": sa.craft(to_b(), padding=bytes(full)),
            "next_header": sa.craft(to_b(), next_header=6),
            "dummy": sa.craft(to_b(), next_header=59),
            "inner_version": sa.craft(to_b(), next_header=41),
            "inner_length": sa.craft(to_b()[:-16]),
            "esp_length": sa.craft(to_b())[:-1],
            "unknown_spi": b"\0\0\x20\x01" + sa.craft(to_b())[4:],
            "runt": b"\0\0\x10\x01",
        }
        found = reasons(sa.open_burst(list(cases.values())))
        assert dict(zip(cases, found, strict=True)) == {name: name for name in cases}


def test_a_pad_length_beyond_the_packet_is_seen(sa):
    assert reason(sa.open, sa.craft(to_b(), pad_length=255)) == "pad"
    assert sa.open(sa.craft(to_b(), padding=bytes(range(1, 239)))).packet == to_b()


def test_raw_gives_what_is_there(sa):
    packet = sa.craft(b"anything", next_header=253)
    assert reason(sa.open, packet, look=True) == "next_header"
    opened = sa.open(packet, raw=True)
    assert (opened.packet, opened.next_header, opened.sequence) == (b"anything", 253, 1)
    assert sa.open(sa.seal(b"transport mode", next_header=17), raw=True).packet == b"transport mode"


def test_what_is_crafted_by_the_rules_is_what_is_sealed():
    with sa_of() as one, sa_of() as other:
        assert [one.craft(packet) for packet in PACKETS] == [other.seal(packet) for packet in PACKETS]


def test_what_cannot_be_crafted_is_refused_with_what_would_be_right(sa):
    with pytest.raises(ValueError, match="31 octets with padding and trailer are not a multiple of 4"):
        sa.craft(to_b(), padding=b"\1")
    with pytest.raises(ValueError, match="the ICV of aes128gcm16 has 16 octets, not 12"):
        sa.craft(to_b(), icv=bytes(12))
    for wrong in ({"next_header": 256}, {"pad_length": 256}, {"pad_length": -1}):
        with pytest.raises(ValueError, match="is 0 to 255"):
            sa.craft(to_b(), **wrong)
    assert sa.sequence == 0


def test_what_is_no_packet_is_not_sealed(sa):
    wrong = [b"", b"\x45", bytes(40), to_b()[:-1], b"\x60" + bytes(38), b"\x41" + to_b()[1:]]
    assert [reason(sa.seal, packet) for packet in wrong] == [
        *("inner_length", "inner_length", "inner_version", "inner_length", "inner_length", "inner_length"),
    ]
    assert sa.sequence == 0


# ---- keys, memory, life


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"spi": 0}, "an SPI is 1 to"),
        ({"spi": 2**32}, "an SPI is 1 to"),
        ({"sequence": 2**32}, "a sequence number"),
        ({"iv": 2**64}, "an IV"),
        ({"tfc_octets": 9001}, "TFC padding is 0 to 9000"),
        ({"seed": -1}, "a seed"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        sa_of(**settings)


def test_what_cannot_be_made_is_refused():
    with pytest.raises(BadValueError):
        SecurityAssociation("rot13", b"", spi=SPI)
    assert refused(SecurityAssociation, "aes128gcm16", bytes(16), spi=SPI) == errno.EINVAL
    assert refused(sa_of, replay_window=100) == errno.EINVAL


@pytest.mark.parametrize("provider", [Provider.OPENSSL, Provider.AUTO])
def test_either_provider(provider):
    with sa_of(provider=provider) as sa, sa_of() as other:
        assert sa.seal(to_b()) == other.seal(to_b())


def test_ivs_of_a_seed_come_again_and_those_of_none_do_not():
    def sealed(seed):
        with sa_of("aes128-sha256", seed=seed) as sa:
            return [sa.seal(to_b()) for _ in range(4)]

    assert sealed(7) == sealed(7)
    assert len({packet[8:24] for seed in (7, 8, None, None) for packet in sealed(seed)}) == 16


def test_thousands_of_sas_take_what_is_said_and_leave_nothing():
    keys = lone_keys(Provider.AUTO)
    before = keys.info()
    sas = [sa_of("aes256gcm16-esn", spi=SPI + number) for number in range(3000)]
    grown = keys.info()
    assert grown.octets > before.octets
    assert grown.in_use - before.in_use == pytest.approx(3000 * sas[0].memory.key_octets, rel=0.1)
    assert sas[0].memory.key_octets <= 1280
    assert sas[0].memory.octets <= 512
    sealed = [sa.seal(to_b()) for sa in sas]
    assert all(sa.open(packet).packet == to_b() for sa, packet in zip(sas, sealed, strict=True))
    for sa in sas[:1500]:
        sa.close()
    del sa, sas  # those that nobody closed
    assert keys.info().in_use == before.in_use
    for number in range(3000):
        sa_of(spi=SPI + number).close()
    assert keys.info().octets == grown.octets, "what was given back is taken first"


def test_a_closed_one_refuses_everything_and_closes_again(sa):
    packet = sa.seal(to_b())
    sa.close()
    sa.close()
    for call, argument in (
        (sa.seal, to_b()),
        (sa.open, packet),
        (sa.seal_burst, [to_b()]),
        (sa.open_burst, [packet]),
        (sa.craft, b""),
    ):
        assert refused(call, argument) == errno.EBADF


FORK = """
import errno, os, sys
from tests.unit.lone_sas import refused, sa_of
from tests.unit.sites import to_b
sa = sa_of()
if child := os.fork():
    sa.seal(to_b())
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
own = sa_of()
sys.exit(0 if own.open(own.seal(to_b())).packet == to_b() and refused(sa.seal, to_b()) == errno.ENOKEY else 1)
"""


def test_a_forked_process_has_no_keys():
    """Pages that the kernel wiped would be a key of zeros."""
    if not lone_keys(Provider.AUTO).info().wiped_on_fork:
        pytest.skip("this kernel wipes nothing")
    subprocess.run([sys.executable, "-c", FORK], cwd=VECTORS.parents[2], check=True)


def test_two_threads_are_never_in_one_sa():
    """They would give one number, and one nonce, to two packets."""
    with sa_of("aes256-sha512", tfc_octets=1000) as sa, ThreadPoolExecutor(1) as pool:
        many = pool.submit(sa.seal_burst, np.frombuffer(to_b() * 20000, np.uint8).reshape(20000, 28))
        while sa.sequence == 0:
            assert not many.done()
        assert [refused(sa.seal, to_b()), refused(sa.close)] == [errno.EBUSY] * 2
        assert many.result().reason(19999) == "ok"
        assert sa.open(sa.seal(to_b())).sequence == 20001


def test_no_key_is_shown(sa):
    shown = f"{sa!r} {vars(sa)!r} {vars(vars(sa)['_lone'])!r}"
    assert key("aes128gcm16").hex() not in shown
    assert repr(key("aes128gcm16"))[2:-1] not in shown
