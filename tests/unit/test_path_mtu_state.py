"""What is believed of a path's MTU: ICMP messages that tell the truth, lies, black holes, paths that widen again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.services.path_mtu_state import FLOOR, Intervals, PathMtu

TIMES = Intervals()


class Network:
    """A path that takes `takes` octets, and whoever asks it. `silent`: hops drop without a word."""

    def __init__(self, takes, link=1500, version=4, block=1):
        self.takes, self.block, self.now, self.asked = takes, block, 1000.0, []
        self.path = PathMtu(version, link, TIMES, self.now)

    def probe(self, *, active=True):
        """One probe, if one is due; its size."""
        size = self.path.next_probe(self.now, active=active)
        if size is not None:
            sent = size - (size % self.block)
            self.asked.append(size)
            self.path.probed(size, sent, self.now + 0.1, passed=sent <= self.takes)
        self.now += 0.2
        return size

    def settle(self):
        """Probes until none is due."""
        for _ in range(50):
            if self.probe() is None:
                return
        raise AssertionError(f"no end: {self.asked}")

    def wait(self, seconds):
        self.now += seconds


def test_a_path_that_takes_all_is_asked_once_and_then_once_a_minute():
    net = Network(1500)
    net.settle()
    assert (net.asked, net.path.outer) == ([1500], 1500)
    net.wait(TIMES.confirm_s - 1)
    assert net.probe() is None
    net.wait(1)
    assert net.probe() == 1500


def test_nothing_is_asked_of_a_path_without_traffic():
    net = Network(1500)
    for _ in range(100):
        assert net.probe(active=False) is None
        net.wait(TIMES.quiet_s)
    assert net.path.waits_for_traffic


@pytest.mark.parametrize(
    ("octets", "links", "outer"),
    [(1500, (1500, 1400, 1300), 1400), (1400, (1500, 1400), 1280), (1500, (), 1280), (1600, (1400,), 1500), (570, (500,), 576)],
    ids=["of an interface", "of that very size", "of none", "longer than any in use", "not below the floor"],
)
def test_what_this_host_refuses_is_believed_without_a_probe_of_the_former_size(octets, links, outer):
    path = PathMtu(4, 1500, TIMES, 0.0)
    assert path.refused(octets, links, 1.0) is (outer != 1500)
    assert (path.outer, path.next_probe(1.0, active=True)) == (outer, outer)


def test_what_this_host_refused_is_tried_again_after_a_while_and_a_refusal_ends_that_at_once():
    path = PathMtu(4, 1500, TIMES, 0.0)
    path.refused(1500, (1500, 1400), 1.0)
    assert not path.aged(TIMES.raise_s)
    assert path.aged(1.0 + TIMES.raise_s)
    assert path.outer == 1500
    assert path.refused(1500, (1500, 1400), 2.0 + TIMES.raise_s)
    assert path.outer == 1400


def test_a_true_message_is_followed_at_once_and_confirmed():
    net = Network(1400)
    assert net.path.reported(1400, net.now)
    assert net.path.outer == 1400
    net.settle()
    assert (net.asked, net.path.outer) == ([1500, 1400], 1400)


def test_a_message_that_lies_is_found_out_and_then_not_listened_to():
    net = Network(1500)
    net.settle()
    assert net.path.reported(1280, net.now)
    assert net.path.outer == 1280
    net.settle()
    assert (net.asked[-1], net.path.outer) == (1500, 1500)
    assert not net.path.reported(1280, net.now)
    net.wait(TIMES.confirm_s + 1)
    assert net.path.reported(1280, net.now)


def test_several_messages_lead_to_the_narrowest_hop_and_the_first_size_is_what_is_probed():
    net = Network(1300)
    net.path.reported(1400, net.now)
    net.path.reported(1300, net.now)
    net.settle()
    assert (net.asked, net.path.outer) == ([1500, 1300], 1300)


@pytest.mark.parametrize(
    ("version", "absurd"), [(4, 0), (4, 68), (4, 575), (4, 1500), (4, 65535), (6, 1279), (6, 576), (6, 1500), (6, 2**32 - 1)]
)
def test_absurd_values_change_nothing(version, absurd):
    net = Network(1500, version=version)
    assert not net.path.reported(absurd, net.now)
    assert net.path.outer == 1500


@pytest.mark.parametrize("version", [4, 6])
def test_the_floor_itself_is_possible(version):
    net = Network(FLOOR[version], version=version)
    assert net.path.reported(FLOOR[version], net.now)
    net.settle()
    assert net.path.outer == FLOOR[version]


@given(takes=st.integers(576, 1500), version=st.sampled_from([4, 6]))
def test_a_black_hole_is_measured_to_the_octet(takes, version):
    net = Network(max(takes, FLOOR[version]), version=version)
    net.settle()
    assert net.path.outer == net.takes
    assert len(net.asked) <= 14


def test_while_a_black_hole_is_measured_a_size_is_used_that_nearly_every_path_takes():
    net = Network(1400)
    net.probe()
    assert net.path.outer == 1280


@given(takes=st.integers(1280, 1487))
def test_ciphers_with_blocks_measure_to_a_block(takes):
    net = Network(takes, block=16)
    net.settle()
    assert takes - 32 < net.path.outer <= takes


def test_a_path_that_widens_is_used_again_after_ten_minutes():
    net = Network(1400)
    net.path.reported(1400, net.now)
    net.settle()
    net.takes = 1500
    while net.now < 1000 + TIMES.raise_s - 1:
        net.probe()
        net.wait(1)
        assert net.path.outer == 1400
    net.wait(2)
    net.settle()
    assert net.path.outer == 1500


def test_a_path_that_stays_narrow_is_not_widened_but_measured():
    net = Network(1400)
    net.path.reported(1400, net.now)
    net.settle()
    net.takes = 1450
    net.wait(TIMES.raise_s)
    net.settle()
    assert net.path.outer == 1450


def test_a_path_that_narrows_without_a_word_is_found_within_a_minute():
    net = Network(1500)
    net.settle()
    net.takes = 1300
    net.wait(TIMES.confirm_s)
    net.settle()
    assert net.path.outer == 1300


def test_another_link_begins_anew():
    net = Network(1400, link=9000)
    net.settle()
    assert net.path.outer == 1400
    net.path.link_is(1350, net.now)
    assert net.path.outer == 1350
    net.path.link_is(9000, net.now)
    net.settle()
    assert net.path.outer == 1400


def test_links_longer_than_ike_messages_are_believed():
    net = Network(65535, link=65535)
    net.settle()
    assert (net.asked, net.path.outer) == ([], 65535)
    net.path.reported(9000, net.now)
    net.settle()
    assert net.path.outer == 9000


def test_a_probe_of_which_nothing_is_heard_is_forgotten():
    net = Network(1500)
    assert net.path.next_probe(net.now, active=True) == 1500
    assert net.path.next_probe(net.now + TIMES.answer_s - 1, active=True) is None
    assert net.path.next_probe(net.now + TIMES.answer_s, active=True) == 1500
    net.path.not_sent(net.now + TIMES.answer_s)
    assert net.path.next_probe(net.now + TIMES.answer_s + TIMES.probe_s, active=True) == 1500


def test_an_answer_to_another_probe_says_nothing():
    net = Network(1500)
    net.path.next_probe(net.now, active=True)
    net.path.probed(1400, 1400, net.now, passed=False)
    assert net.path.outer == 1500


def test_without_probes_a_reduced_value_is_forgotten_in_time():
    """Keys set by hand: RFC 1191 §6.3."""
    net = Network(1400)
    net.path.reported(1400, net.now)
    assert not net.path.aged(net.now + TIMES.raise_s - 1)
    assert net.path.aged(net.now + TIMES.raise_s)
    assert net.path.outer == 1500
    assert not net.path.aged(net.now + TIMES.raise_s + 1)
