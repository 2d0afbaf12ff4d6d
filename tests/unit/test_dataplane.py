"""The data plane as an object: what it refuses, how SPIs are given out, what becomes of what is removed."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
from typing import Any, cast

import pytest

from ipsec_dp.dataplane import (
    DROP_NAMES,
    DROP_SENTENCES,
    Action,
    Batch,
    Channel,
    DataPlane,
    Df,
    Encapsulation,
    Endpoint,
    MemoryDatagram,
    OuterPath,
    Policy,
    PolicyRule,
    Provider,
    SaFlag,
    SaHandle,
)
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.gateway.inspection import gateway_status
from ipsec_dp.ipsec.selectors import Range, SelectorPair
from ipsec_dp.ipsec.suites import Encr, Integ, Suite, parse_suite
from ipsec_dp.rig.plane import keymat, pair, selector
from tests.unit.sites import arrive, from_a, padded, seal, to_b

GCM = parse_suite("aes128gcm16")
ANYTHING = selector("0.0.0.0/0", "0.0.0.0/0")
HERE = Endpoint(ANYTHING.local.low, 4500)
PATH = OuterPath(HERE, HERE, Encapsulation.UDP, 0)
SMALL: dict[str, Any] = {"sa_slots": 256, "tunnels": 4, "interfaces": 2}
SUITES = [
    *("aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305"),
    *(f"aes{bits}-{hash_}" for bits in (128, 192, 256) for hash_ in ("sha1", "sha256", "sha384", "sha512")),
]


@pytest.fixture
def plane():
    with DataPlane(**SMALL) as made:
        yield made


def path_with(**fields: Any) -> Any:
    """PATH with a field that is wrong."""
    return dataclasses.replace(PATH, **fields)


def install_in(plane, spi=0x1001, **changes):
    settings = {"spi": spi, "suite": GCM, "keymat": keymat(GCM, "k"), "selectors": [ANYTHING], "tunnel": 0, "interface": 0}
    return plane.install_inbound(**settings | changes)


def install_out(plane, spi=0x1001, **changes):
    return plane.install_outbound(**{"spi": spi, "suite": GCM, "keymat": keymat(GCM, "k"), "path": PATH, "tunnel": 0} | changes)


def refused(number, call, *arguments, **settings):
    with pytest.raises(DataPlaneError) as caught:
        call(*arguments, **settings)
    assert caught.value.errno == number
    assert "\n" not in str(caught.value)


# ---- making one


@pytest.mark.parametrize(
    "bad",
    [
        {"sa_slots": 128},
        {"sa_slots": 300},
        {"sa_slots": 2**21},
        {"tunnels": 0},
        {"tunnels": 2**20 + 1},
        {"interfaces": 0},
        {"interfaces": 4097},
        {"workers": 0},
        {"workers": 65},
        {"provider": 3},
        {"stranger_rate": 0},
        {"stranger_burst": 0},
    ],
    ids=str,
)
def test_sizes_out_of_range_are_refused(bad):
    refused(errno.EINVAL, DataPlane, **SMALL | bad)


@pytest.mark.parametrize(("provider", "name"), [(Provider.OPENSSL, "openssl"), (Provider.IPSEC_MB, "intel-ipsec-mb")])
def test_a_provider_can_be_forced_and_is_named(provider, name):
    if provider is Provider.IPSEC_MB:
        with DataPlane(**SMALL) as automatic:
            if automatic.provider != name:  # then the reason is said, and forcing it fails
                assert automatic.provider_reason
                refused(errno.ENOTSUP, DataPlane, **SMALL, provider=provider)
                return
    with DataPlane(**SMALL, provider=provider) as plane:
        assert plane.provider == name
        assert bool(plane.provider_reason) == (provider is Provider.OPENSSL)


def test_a_closed_one_refuses_everything_and_closes_again():
    plane = DataPlane(**SMALL)
    batch = Batch.of([to_b()])
    plane.close()
    plane.close()
    for call in (
        plane.arena,
        plane.counters,
        plane.reclaim,
        plane.conditions,
        plane.start,
        plane.stop,
        lambda: plane.provider,
        lambda: plane.step_outbound(1),
        lambda: plane.install_policy(Policy([])),
        lambda: plane.seal(SaHandle(1), batch, batch),
        lambda: plane.open(batch, batch),
        lambda: install_in(plane),
    ):
        refused(errno.EBADF, call)


# ---- reasons


def test_every_drop_reason_has_a_name_and_a_sentence_and_is_counted_and_listed(plane):
    assert DROP_NAMES[0] == "ok"
    names = DROP_NAMES[1:]
    assert len(set(names)) == len(names) > 25
    assert list(DROP_SENTENCES) == list(plane.counters().drops) == list(names)
    for name, sentence in DROP_SENTENCES.items():
        assert name == name.lower()
        assert name.isidentifier()
        assert len(sentence) > 10
        assert not sentence.endswith(".")
    status = gateway_status("a", plane)
    assert list(status.drops) == list(names)
    assert status.drop_sentences == DROP_SENTENCES
    assert status.provider == plane.provider


def test_reasons_outside_the_list_have_no_name():
    from ipsec_dp._native import ffi, lib

    for reason in (len(DROP_NAMES), 2**32 - 1):
        assert lib.dp_drop_name(reason) == ffi.NULL
        assert lib.dp_drop_sentence(reason) == ffi.NULL


# ---- SPIs


def test_an_spi_carries_its_slot_and_is_otherwise_the_callers_random(plane):
    spis = [plane.allocate_spi(0xABCDEF12) for _ in range(256)]
    assert {spi >> 8 for spi in spis} == {0xABCDEF}
    assert {spi & 0xFF for spi in spis} == set(range(256))


def test_an_spi_is_never_below_256_whatever_the_random(plane):
    """RFC 4303 §2.1: 0 to 255 are reserved."""
    spis = [plane.allocate_spi(0) for _ in range(256)]
    assert min(spis) >= 256
    assert len({spi & 0xFF for spi in spis}) == 256


def test_a_full_table_gives_no_spi_until_one_is_released(plane):
    spis = [plane.allocate_spi(2**32 - 1) for _ in range(256)]
    refused(errno.ENOSPC, plane.allocate_spi, 5)
    plane.release_spi(spis[77])
    assert plane.allocate_spi(0x500) & 0xFF == spis[77] & 0xFF
    refused(errno.ENOSPC, plane.allocate_spi, 5)


def test_an_installed_spi_is_not_given_out_again_until_removed(plane):
    spis = [plane.allocate_spi(0xAB000000) for _ in range(256)]
    handles = [install_in(plane, spi) for spi in spis]
    refused(errno.ENOSPC, plane.allocate_spi, 0xAB000000)
    plane.remove(handles[3])
    assert plane.allocate_spi(0xCD000000) == 0xCD000000 | (spis[3] & 0xFF)


def test_a_slot_holds_one_sa(plane):
    install_in(plane, 0x1001)
    refused(errno.EEXIST, install_in, plane, 0x1001)
    refused(errno.EEXIST, install_in, plane, 0x2001)  # another SPI of the same slot
    install_in(plane, 0x1002)
    install_out(plane, 0x1001)  # the peer's SPIs are the peer's affair
    install_out(plane, 0x1001)


def test_a_refused_installation_leaves_no_key_behind(plane):
    install_in(plane)
    in_use = plane.arena().in_use
    refused(errno.EEXIST, install_in, plane)
    refused(errno.EINVAL, install_in, plane, 0x1002, selectors=[])
    assert plane.arena().in_use == in_use


# ---- bad parameters


@pytest.mark.parametrize(
    "bad",
    [
        {"spi": 0},
        {"spi": 255},
        {"tunnel": 4},
        {"interface": 2},
        {"worker": 1},
        {"replay_window": 0},
        {"replay_window": 32},
        {"replay_window": 100},
        {"replay_window": 16384},
        {"selectors": []},
        {"selectors": [SelectorPair(ANYTHING.local, ANYTHING.remote, local_ports=Range(port, port)) for port in range(257)]},
        {"selectors": [SelectorPair(ANYTHING.local, ANYTHING.remote, protocol=Range(7, 6))]},
        {"selectors": [SelectorPair(ANYTHING.local, ANYTHING.remote, protocol=Range(0, 257))]},
        {"selectors": [SelectorPair(ANYTHING.local, ANYTHING.remote, local_ports=Range(0, 65537))]},
        {"selectors": [SelectorPair(ANYTHING.local, ANYTHING.remote, remote_ports=Range(2, 1))]},
        {"keymat": b""},
        {"keymat": bytes(19)},
        {"keymat": bytes(21)},
    ],
    ids=lambda bad: str(bad)[:60],
)
def test_an_inbound_sa_with_a_bad_parameter_is_refused(plane, bad):
    refused(errno.EINVAL, install_in, plane, **bad)
    assert plane.arena().in_use == 0
    install_in(plane)


@pytest.mark.parametrize(
    "bad",
    [
        {"spi": 0},
        {"spi": 255},
        {"tunnel": 4},
        {"worker": 1},
        {"tfc_octets": 9001},
        {"sequence": 2**32},
        {"keymat": bytes(36)},
        {"path": path_with(remote=None)},
        {"path": path_with(encapsulation=2)},
        {"path": path_with(df=3)},
        {"path": path_with(dscp=3)},
        {"path": path_with(dscp_value=64)},
        {"path": path_with(outer=8)},
    ],
    ids=lambda bad: str(bad)[:60],
)
def test_an_outbound_sa_with_a_bad_parameter_is_refused(plane, bad):
    refused(errno.EINVAL, install_out, plane, **bad)
    assert plane.arena().in_use == 0
    if "path" in bad:
        refused(errno.EINVAL, plane.set_path, install_out(plane), bad["path"])


@pytest.mark.parametrize("install", [install_in, install_out])
@pytest.mark.parametrize("number", [-1, 2**32])
def test_numbers_that_fit_no_field_never_reach_the_core(plane, install, number):
    with pytest.raises(OverflowError):
        install(plane, spi=number)


@pytest.mark.parametrize(
    "suite",
    [Suite(Encr.AES_GCM_16, 16, Integ.HMAC_SHA1_96, esn=False), Suite(Encr.AES_CBC, 32, Integ.NONE, esn=False)],
)
def test_a_suite_that_nobody_computes_is_refused(plane, suite):
    refused(errno.ENOTSUP, install_in, plane, suite=suite, keymat=bytes(suite.keymat_octets))


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("install", [install_in, install_out])
def test_a_suite_takes_exactly_its_own_length_of_keys(plane, install, suite):
    suite = parse_suite(suite)
    for wrong in (-1, 1, 4):
        refused(errno.EINVAL, install, plane, suite=suite, keymat=bytes(suite.keymat_octets + wrong))
    install(plane, suite=suite, keymat=bytes(suite.keymat_octets))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_keys_come_in_any_buffer(plane, kind):
    install_in(plane, keymat=kind(bytes(20)))


def test_a_malformed_rule_is_named(plane):
    good = PolicyRule(ANYTHING, Action.PROTECT, 0)
    bad = PolicyRule(SelectorPair(ANYTHING.local, ANYTHING.remote, protocol=Range(9, 8)), Action.PROTECT, 0)
    with pytest.raises(DataPlaneError, match="policy rule 2 is malformed"):
        Policy([good, good, bad])
    with pytest.raises(DataPlaneError, match="policy rule 0 is malformed"):
        Policy([dataclasses.replace(good, action=cast("Any", 3))])


def test_a_snapshot_is_installed_once(plane):
    policy = Policy([PolicyRule(ANYTHING, Action.PROTECT, 0)])
    assert policy.octets > 0
    plane.install_policy(policy)
    refused(errno.EBADF, plane.install_policy, policy)
    refused(errno.EBADF, lambda: policy.octets)
    plane.install_policy(Policy([]))
    assert plane.reclaim() == 0


# ---- removal


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("install", [install_in, install_out])
def test_removal_is_once_and_gives_the_key_memory_back(plane, install, suite):
    suite = parse_suite(suite)
    handle = install(plane, suite=suite, keymat=bytes(suite.keymat_octets))
    assert plane.arena().in_use > 0
    plane.remove(handle)
    refused(errno.ENOENT, plane.remove, handle)
    refused(errno.ENOENT, plane.read_sa, handle)
    refused(errno.ENOENT, plane.clear, handle, SaFlag.SOFT_LIMIT)
    refused(errno.ENOENT, plane.set_path, handle, PATH)
    assert plane.reclaim() == 0
    assert plane.arena().in_use == 0


@pytest.mark.parametrize("install", [install_in, install_out])
def test_a_name_that_was_used_up_names_nothing_though_its_place_is_taken_again(plane, install):
    old = install(plane)
    plane.remove(old)
    new = install(plane)
    assert old != new
    refused(errno.ENOENT, plane.read_sa, old)
    refused(errno.ENOENT, plane.remove, old)
    assert plane.read_sa(new).spi == 0x1001


@pytest.mark.parametrize("handle", [0, 1, 2**31, 2**31 + 1, 2**32, 2**64 - 1])
def test_names_of_nothing_are_refused(plane, handle):
    install_in(plane)
    install_out(plane)
    refused(errno.ENOENT, plane.remove, handle)


def test_an_inbound_sa_has_no_path(plane):
    refused(errno.ENOENT, plane.set_path, install_in(plane), PATH)


def test_a_removed_sa_opens_nothing_even_before_it_is_reclaimed():
    with pair() as site:
        datagram = from_a(site, seal(site, padded(to_b(), 4), 1))
        site.b.plane.remove(site.inbound("b"))
        assert arrive(site.b, datagram) == []
        assert site.b.drops == {"unknown_spi": 1}


def test_a_removed_sa_seals_nothing_even_before_it_is_reclaimed():
    with pair() as site:
        handle = site.outbound("a")
        site.a.plane.remove(handle)
        batch = Batch.of([to_b()])
        refused(errno.ENOENT, site.a.plane.seal, handle, batch, Batch(1, 200))
        site.a.push(to_b())
        site.a.step()
        assert (site.a.sent(), site.a.drops) == ([], {"no_sa": 1})


def test_a_thousand_outbound_sas_come_and_go(plane):
    """The table grows, and its holes are used again."""
    handles = [install_out(plane) for _ in range(1000)]
    assert len(set(handles)) == 1000
    in_use = plane.arena().in_use
    for handle in handles[::2]:
        plane.remove(handle)
    plane.reclaim()
    assert plane.arena().in_use == in_use // 2
    handles[::2] = [install_out(plane) for _ in range(500)]
    assert len(set(handles)) == 1000
    assert plane.arena().in_use == in_use
    assert {plane.read_sa(handle).spi for handle in handles} == {0x1001}


def test_keys_lie_in_memory_that_is_not_dumped_or_inherited(plane):
    arena = plane.arena()
    assert (arena.undumped, arena.wiped_on_fork) == (True, True)


def test_nothing_of_a_key_shows_in_what_python_sees():
    secret = bytes(range(200, 220))
    with pair() as site:
        handle = site.a.plane.install_outbound(spi=0x999, suite=GCM, keymat=secret, path=site.a.path_to(site.b.endpoint), tunnel=0)
        texts = [repr(site.a.plane), repr(site.a.plane.read_sa(handle)), repr(site.a.sad.records), str(vars(site.a.plane))]
        with pytest.raises(DataPlaneError) as caught:
            site.a.plane.install_outbound(spi=0, suite=GCM, keymat=secret, path=site.a.path_to(site.b.endpoint), tunnel=0)
        texts.append(repr(caught.value))
        assert not any(secret[:4].hex() in text or repr(secret[:4])[2:-1] in text for text in texts)


# ---- devices


def test_an_interface_is_attached_once_and_detached_once(plane):
    plane.attach_memory_tun(0)
    refused(errno.EBUSY, plane.attach_memory_tun, 0)
    plane.detach_tun(0)
    refused(errno.ENOENT, plane.detach_tun, 0)
    plane.attach_memory_tun(0)


def test_devices_out_of_range_are_refused(plane):
    refused(errno.EINVAL, plane.attach_memory_tun, 2)
    refused(errno.EINVAL, plane.attach_memory_tun, 0, worker=1)
    refused(errno.EINVAL, plane.attach_memory_tun, 0, packets=0)
    refused(errno.EINVAL, plane.attach_memory_link, 2)
    refused(errno.EINVAL, plane.attach_memory_link, Encapsulation.UDP, worker=1)
    refused(errno.EINVAL, plane.attach_tun, 2, 0)
    refused(errno.EBADF, plane.attach_tun, 0, 10**6)
    refused(errno.EBADF, plane.attach_link, Encapsulation.UDP, HERE, 10**6, Df.SET)
    refused(errno.ENOENT, plane.detach_link, 0)
    refused(errno.ENOENT, plane.detach_tun, 0, worker=1)
    refused(errno.ENOENT, plane.push_tun, 0, b"x")
    refused(errno.ENOENT, plane.pull_tun, 0)
    refused(errno.ENOENT, plane.push_link, 0, MemoryDatagram(b"x"))
    refused(errno.ENOENT, plane.pull_link, 0)


def test_links_get_the_lowest_free_number(plane):
    assert [plane.attach_memory_link(Encapsulation.UDP) for _ in range(3)] == [0, 1, 2]
    plane.detach_link(1)
    assert plane.attach_memory_link(Encapsulation.ESP) == 1


def test_there_are_1024_links_at_the_most(plane):
    for _ in range(1024):
        plane.attach_memory_link(Encapsulation.UDP)
    refused(errno.ENOSPC, plane.attach_memory_link, Encapsulation.UDP)


def test_memory_queues_are_bounded_and_first_in_first_out(plane):
    plane.attach_memory_tun(0, packets=2)
    plane.push_tun(0, b"1")
    plane.push_tun(0, b"2")
    refused(errno.ENOBUFS, plane.push_tun, 0, b"3")
    refused(errno.EMSGSIZE, plane.push_tun, 0, bytes(65536))
    assert plane.pull_tun(0) is None


def test_a_real_device_is_not_a_memory_double(plane):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        plane.attach_tun(0, ours.fileno())
        refused(errno.ENOENT, plane.push_tun, 0, b"x")


def test_descriptors_are_duplicated_and_given_back():
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outer, DataPlane(**SMALL) as plane:
        plane.attach_link(Encapsulation.UDP, HERE, outer.fileno(), Df.SET, outer.fileno())
        plane.attach_tun(0, outer.fileno())
        plane.attach_tun(1, outer.fileno())
        plane.detach_tun(1)
        plane.reclaim()
    assert len(os.listdir("/proc/self/fd")) == before


def test_punt_channels_are_two(plane):
    assert plane.punt_descriptor(Channel.STRANGER) != plane.punt_descriptor(Channel.TRUSTED)
    for channel in Channel:
        assert not os.get_blocking(plane.punt_descriptor(channel))
        assert not os.get_inheritable(plane.punt_descriptor(channel))
        assert plane.read_punt(channel) is None
    refused(errno.EINVAL, plane.punt_descriptor, 2)


# ---- threads


def test_threads_start_once_and_stop_twice(plane):
    plane.attach_memory_tun(0)
    plane.start()
    refused(errno.EALREADY, plane.start)
    plane.stop()
    plane.stop()
    plane.start()
