"""Manual SAs: what is installed from key files, and what is left when one cannot be."""

from __future__ import annotations

import logging
import os

import pytest

from ipsec_dp.databases.spd import Spd
from ipsec_dp.dataplane import Limits
from ipsec_dp.errors import BadValueError
from ipsec_dp.keying.manual import WARNING, ManualSas, limits_of
from ipsec_dp.rig.plane import PlaneRig
from tests.unit.gateway_doubles import TEXT, config_of, path_to
from tests.unit.sites import to_b


@pytest.fixture
def config(tmp_path):
    return config_of(tmp_path)


@pytest.fixture
def site(config):
    """A data plane in memory; `manual` for its tunnels."""
    spd = Spd(config)
    with PlaneRig("a", "192.0.2.1", tunnels=spd.tunnels.capacity, interfaces=spd.interfaces.capacity) as gateway:
        yield gateway, ManualSas(gateway.sad, spd, os.urandom), spd.tunnel_numbers["by-hand"]


def install(site, config):
    gateway, manual, _ = site
    manual.install(config.tunnels, {"by-hand": path_to("192.0.2.2", gateway.link)})


def test_one_child_sa_with_the_spis_suite_and_selectors_of_the_configuration(site, config):
    install(site, config)
    gateway, _, number = site
    (child,) = gateway.sad.children_of(number)
    records = [gateway.sad.records[handle] for handle in (child.inbound, child.outbound)]
    assert [record.spi for record in records] == [0x1001, 0x2001]
    assert {record.suite.keyword for record in records} == {"aes128gcm16"}
    assert [(pair.local_text, pair.remote_text) for pair in child.selectors] == [("10.1.0.0/16", "10.2.0.0/16")]
    assert str(gateway.sad.records[child.outbound].path.remote.address) == "192.0.2.2"


def test_the_other_tunnels_get_none(site, config):
    install(site, config)
    gateway, manual, number = site
    assert {child.tunnel for child in gateway.sad.children.values()} == {number}
    assert list(manual.paths) == ["by-hand"]


def test_a_person_is_warned(site, config, caplog):
    caplog.set_level(logging.WARNING, "ipsec_dp")
    install(site, config)
    assert [record.getMessage() for record in caplog.records] == [f'tunnel "by-hand": {WARNING}']
    ManualSas.warn(config.tunnels)
    assert len(caplog.records) == 2, "of the tunnels whose keys are set by hand, whoever made their SAs"


def sent_iv(gateway):
    """The IV of the next packet."""
    gateway.push(to_b())
    gateway.step()
    (datagram,) = gateway.sent()
    assert datagram.data[:4] == (0x2001).to_bytes(4)
    return datagram.data[8:16]


def test_it_sends_and_starts_from_another_iv_each_time(site, config):
    """GCM under one key must never see one IV twice, and nobody knows where a former run ended."""
    gateway, manual, number = site
    ivs = set()
    for _ in range(4):
        install(site, config)
        (child,) = gateway.sad.children_of(number)
        gateway.protect(child.selectors, tunnel=number)
        ivs.add(sent_iv(gateway))
        manual.remove(config.tunnel("by-hand"))
    assert len(ivs) == 4


def test_soft_limits_are_a_tenth_below_the_hard_ones(tmp_path):
    lines = '[tunnel.esp]\nlife_octets = "1 GB"\nlife_packets = 1000\n[tunnel.manual_unsafe]'
    tunnel = config_of(tmp_path, TEXT.replace("[tunnel.manual_unsafe]", lines)).tunnel("by-hand")
    assert limits_of(tunnel) == Limits(900_000_000, 1_000_000_000, 900, 1000)


def test_a_key_file_that_went_bad_installs_nothing(site, config, tmp_path):
    (tmp_path / "out.key").write_text("02" * 7)
    with pytest.raises(BadValueError, match=r"out\.key"):
        install(site, config)
    gateway, manual, _ = site
    assert gateway.sad.children == {}
    assert manual.status("by-hand").remote == "192.0.2.2", "`status` can still be asked"


def test_removed_nothing_of_it_is_left(site, config):
    install(site, config)
    gateway, manual, _ = site
    manual.remove(config.tunnel("by-hand"))
    assert (gateway.sad.children, gateway.sad.records, manual.paths) == ({}, {}, {})


def test_it_is_up_with_both_sas_only(site, config):
    install(site, config)
    gateway, manual, number = site
    assert (manual.status("by-hand").state, manual.status("by-hand").state_text) == ("up", "manual keys")
    (child,) = gateway.sad.children_of(number)
    gateway.sad.remove(child.outbound)
    assert (manual.status("by-hand").state, manual.status("by-hand").state_text) == ("down", "no SA")
