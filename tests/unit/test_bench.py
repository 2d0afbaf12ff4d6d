"""`ipsec-dp bench`: what it measures, and both forms of its answer. Figures are looked at for their shape, not their size."""

import json

import pytest

from ipsec_dp import cli
from ipsec_dp.bench import esp as bench
from ipsec_dp.dataplane import DataPlane, Provider
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.suites import parse_suite


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(bench, "SUITES", ("aes128gcm16-esn", "aes128-sha256-esn"))
    monkeypatch.setattr(bench.measure_all, "__defaults__", (0.0,))


def expected():
    """Suites and providers of the short run: OpenSSL has all, intel-ipsec-mb where it is the AEAD."""
    with DataPlane(sa_slots=256, tunnels=1, interfaces=1, provider=Provider.AUTO) as plane:
        fast = plane.provider == "intel-ipsec-mb"
    return ([("aes128gcm16-esn", "intel-ipsec-mb")] if fast else []) + [
        ("aes128gcm16-esn", "openssl"),
        ("aes128-sha256-esn", "openssl"),
    ]


def test_every_suite_has_a_provider():
    assert {suite for suite, _ in bench.combinations()} == set(bench.SUITES)
    assert all(parse_suite(suite).esn for suite in bench.SUITES)  # 32 bits would run out within a minute of sealing


def test_json(short, capsys):
    assert cli.main(["bench", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["burst"]) == (1, 64)
    assert [(row["suite"], row["provider"], row["octets"]) for row in answer["rows"]] == [
        (*combination, octets) for combination in expected() for octets in (64, 512, 1420)
    ]
    for row in answer["rows"]:
        for way in ("seal", "open"):
            assert row[f"{way}_ns"] > 0
            assert row[f"{way}_gbit_s"] == pytest.approx(row["octets"] * 8 / row[f"{way}_ns"], abs=0.001)


def test_table(short, capsys):
    assert cli.main(["bench"]) == 0
    shown = capsys.readouterr()
    assert "aes128-sha256" in shown.out
    assert "Gb/s" in shown.out
    assert "{" not in shown.out


def test_dropped_packets_are_no_result(monkeypatch):
    """A benchmark that measures how fast packets are refused says so."""
    monkeypatch.setattr(DataPlane, "open", lambda *_: 0)
    with pytest.raises(DataPlaneError, match="packets of the benchmark were dropped"):
        bench.measure("aes128gcm16-esn", "openssl", 64, 0.0)
