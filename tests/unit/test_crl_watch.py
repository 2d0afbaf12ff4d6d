"""CRLs are in force as soon as their file changes, and what cannot be read takes nothing away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ipsec_dp.databases.pad import peer_of
from ipsec_dp.ike.certificates import load_crl, load_private_key
from ipsec_dp.services.crl_watch import LOOK_S, CrlWatch
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock
from tests.doubles.config import configured, tunnel
from tests.ike.pki import CA, OpenSsl

NAMED = '  [tunnel.auth]\n  certificate = "gw.crt"\n  private_key = "gw.key"\n  ca = ["ca.crt"]\n'


@pytest.fixture
def made(tmp_path):
    """A gateway's certificate, its CRL, and another one that names it."""
    pki = OpenSsl(tmp_path)
    pki.certificate("ca", "/CN=Root", extensions=CA)
    pki.certificate("gw", "/CN=gw", "ca", "subjectAltName=IP:192.0.2.1")
    pki.crl("now", "ca")
    pki.crl("revoked", "ca", ("gw",))
    return pki


class Ike:
    """In the driver's place: what it is to judge by."""

    def __init__(self, config, clock) -> None:
        self.clock = clock
        self.peers: dict[str, Any] = {one.name: peer_of(one) for one in config.tunnels}
        self.judged: list[list[str]] = []
        self.done = asyncio.Event()

    def peer(self, name):
        return self.peers.get(name)

    async def judge_again(self, peers):
        self.peers |= peers
        self.judged.append(sorted(peers))
        self.done.set()

    def crls(self, name="to-b"):
        return self.peers[name].auth.trust.crls


class Calendar(FakeClock):
    """A clock whose date can be set: the program of the authority gives its CRLs the date of today."""

    ahead = timedelta(0)

    def set_calendar(self, at):
        self.ahead += at - self.utc()

    def utc(self):
        return super().utc() + self.ahead


def run(directory, *tables, life):
    """`life` with the watch and what it tells."""

    async def whole():
        config = configured(directory, *tables)
        clock = Calendar()
        clock.set_calendar(datetime.now(UTC))
        ike, conditions = Ike(config, clock), Conditions(clock)
        watch = CrlWatch(lambda: cast("Any", ike), conditions, clock)

        async def look():
            """One round: the files are read in a thread, which no clock of ours moves on."""
            ike.done.clear()
            before = clock.next_event
            await clock.advance(LOOK_S)
            for _ in range(1_000_000):
                if clock.next_event not in (before, None):
                    break
                await asyncio.sleep(0)
            await clock.advance(0.0)

        await watch.apply(config)
        await life(ike, conditions, look, config, watch)
        await watch.close()

    asyncio.run(whole())


def certified(name="to-b", *lines, interface="ipsec0"):
    extra = "".join(f"  {line}\n" for line in lines or ('crl = ["now.crl"]',))
    return tunnel(name, 'local = "192.0.2.1"', 'routes = "none"', interface=interface, keys=NAMED + extra)


def test_a_file_that_changes_is_in_force_for_all_that_name_it(made, tmp_path):
    async def life(ike, conditions, look, config, watch):
        await look()
        assert ike.judged == [], "what was read at the start is in force already"
        (tmp_path / "now.crl").write_bytes((tmp_path / "revoked.crl").read_bytes())
        await look()
        assert ike.judged == [["to-b", "to-c"]]
        assert ike.crls() == (load_crl(tmp_path / "revoked.crl"),)
        await look()
        assert len(ike.judged) == 1
        assert conditions.texts == []

    run(
        tmp_path,
        certified(),
        certified("to-c", interface="ipsec1"),
        certified("off", 'revocation = "off"', interface="i2"),
        life=life,
    )


def test_a_file_that_is_no_crl_takes_nothing_away_and_is_told_while_it_lasts(made, tmp_path):
    async def life(ike, conditions, look, config, watch):
        good = (tmp_path / "now.crl").read_bytes()
        before = ike.crls()
        (tmp_path / "now.crl").write_bytes(good[:-20])
        await look()
        assert ike.judged == []
        assert conditions.texts == [f"{tmp_path / 'now.crl'}: holds no CRL; the CRL that was there before stays in force"]
        (tmp_path / "now.crl").unlink()
        await look()
        assert [text.partition(": ")[2][:7] for text in conditions.texts] == ["No such"]
        (tmp_path / "now.crl").write_bytes(good)
        await look()
        assert (ike.crls(), conditions.texts) == (before, [])

    run(tmp_path, certified(), life=life)


@pytest.mark.parametrize("revocation", ["strict", "if-present"])
def test_a_crl_that_is_out_of_date_is_told_until_a_newer_one_is_there(made, tmp_path, revocation):
    """Where IKE SAs are to end with it, before it is."""

    async def life(ike, conditions, look, config, watch):
        (crl,) = ike.crls()
        for at, told in ((crl.last_update_utc, False), (crl.next_update_utc - timedelta(hours=1), revocation == "strict")):
            ike.clock.set_calendar(at)
            await look()
            assert bool(conditions.texts) is told
        ike.clock.set_calendar(crl.next_update_utc + timedelta(seconds=1))
        await look()
        (text,) = conditions.texts
        assert text.startswith(f"{tmp_path / 'now.crl'}: the CRL of CN=Root is out of date since")
        assert ("their IKE SAs have ended" in text) is (revocation == "strict")
        (tmp_path / "now.crl").write_bytes(crl_of(made, crl.next_update_utc))
        await look()
        assert conditions.texts == []

    run(tmp_path, certified("to-b", 'crl = ["now.crl"]', f'revocation = "{revocation}"'), life=life)


def crl_of(made, begin):
    """A CRL of the authority's that is good for a day from then on."""
    authority = x509.load_pem_x509_certificate(made.path("ca.crt").read_bytes())
    builder = x509.CertificateRevocationListBuilder(authority.subject, begin, begin + timedelta(days=1))
    return builder.sign(load_private_key(made.path("ca.key")), hashes.SHA256()).public_bytes(Encoding.PEM)


def test_a_reload_takes_files_in_and_out(made, tmp_path):
    async def life(ike, conditions, look, config, watch):
        await watch.apply(configured(tmp_path, certified("to-b", 'revocation = "off"')))
        (tmp_path / "now.crl").write_bytes(b"nothing")
        await look()
        assert (ike.judged, conditions.texts) == ([], [])

    run(tmp_path, certified(), life=life)
