"""The tunnel monitor: what counts as lost, what a configuration may ask for, and the packets. Moving traffic: tests/netns."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec
import pytest

from ipsec_dp.cli.render import tunnel_table
from ipsec_dp.config import examine
from ipsec_dp.gateway.status import TunnelStatus
from ipsec_dp.host.echo import Echo, reply, request
from ipsec_dp.rig.packets import checksum
from ipsec_dp.services.monitor_health import Health

# ---- questions and answers, by a clock of the test's -----------------------------------------------------------------------------


def asked(health, times, *, start=0.0, answered=False):
    """Asks once a second; whether the tunnel changed its state at each."""
    changes = []
    for number in range(times):
        sequence, went = health.ask(start + number)
        came = answered and health.answered(sequence, start + number + 0.02)
        changes.append(went or came)
    return changes


def test_down_at_the_threshold_and_said_once():
    health = Health(threshold=3)
    assert asked(health, 6) == [False, False, False, True, False, False]  # the first question after three lost ones tells
    assert not health.up
    assert (health.lost_in_a_row, health.lost) == (5, 5)


def test_one_answer_ends_the_row():
    health = Health(threshold=3)
    asked(health, 3)
    health.answered(3, 2.5)
    assert asked(health, 3, start=3) == [False, False, False]
    assert health.up


def test_up_again_after_as_many_answers_in_a_row():
    health = Health(threshold=3)
    asked(health, 4)
    assert asked(health, 2, start=4, answered=True) == [False, False]
    asked(health, 2, start=6)  # the second tells that the first was lost
    assert asked(health, 2, start=8, answered=True) == [False, False]
    assert asked(health, 1, start=10, answered=True) == [True]
    assert health.up


def test_a_late_answer_is_one():
    """The way takes longer than the time between two questions."""
    health = Health(threshold=3)
    for number in range(20):
        health.ask(float(number))
        if number >= 2:
            health.answered(number - 1, number + 0.5)
    assert health.up
    assert health.rtt_s == pytest.approx(2.5)


def test_an_answer_counts_once_and_one_to_no_question_not_at_all():
    health = Health(threshold=2)
    asked(health, 3)
    assert not health.up
    assert not health.answered(77, 3.0)
    sequence, _ = health.ask(3.0)
    assert not health.answered(sequence, 3.1)
    assert not health.answered(sequence, 3.2)
    assert not health.up


def test_the_sequence_number_goes_round():
    health = Health(threshold=2)
    asked(health, 65540, answered=True)
    assert health.up
    assert health.ask(0.0)[0] == 5


# ---- packets ---------------------------------------------------------------------------------------------------------------------

ENDS = [("10.1.0.1", "10.2.0.2"), ("fd00:1::1", "fd00:2::2")]


@pytest.mark.parametrize("ends", ENDS)
def test_a_request_is_a_sound_packet_and_its_reply_is_read(ends):
    source, destination = map(ip_address, ends)
    packet = request(Echo(source, destination, 0x1234, 7, b"token"))
    if source.version == 4:
        assert (checksum(packet[:20]), checksum(packet[20:])) == (0, 0)
        answer = packet[:12] + destination.packed + source.packed + b"\0" + packet[21:]
    else:
        pseudo = packet[8:40] + len(packet[40:]).to_bytes(4) + bytes([0, 0, 0, 58])
        assert checksum(pseudo + packet[40:]) == 0
        answer = packet[:8] + destination.packed + source.packed + b"\x81" + packet[41:]
    assert reply(packet) is None, "a question is no answer"
    assert reply(answer) == Echo(destination, source, 0x1234, 7, b"token")
    assert all(reply(answer[:octets]) is None for octets in range(28 if source.version == 4 else 48))


# ---- what check says -------------------------------------------------------------------------------------------------------------

TUNNEL = """
[[tunnel]]
name = "{name}"
remote = "192.0.2.{number}"
interface = "{interface}"
{lines}
  [tunnel.auth]
  psk_file = "to-b.psk"
  [tunnel.monitor]
  {monitor}
"""
NETS = '  [[tunnel.proxy_id]]\n  local = "10.1.0.0/24"\n  remote = "10.2.0.0/24"'


@pytest.fixture
def lines_of(tmp_path):
    (tmp_path / "to-b.psk").write_text("correct horse battery staple\n")
    (tmp_path / "to-b.psk").chmod(0o600)

    def lines_of(monitor, *, lines=NETS, interface="ipsec0", more=""):
        file = tmp_path / "a.toml"
        file.write_text(TUNNEL.format(name="to-b", number=2, interface=interface, lines=lines, monitor=monitor) + more)
        _, findings = examine(file)
        return [str(each).partition(": ")[2].removeprefix('tunnel "to-b": ') for each in findings]

    return lines_of


TARGET = 'target = "10.2.0.9"\n'
SECOND = """
[[tunnel]]
name = "second"
remote = "192.0.2.3"
interface = "{interface}"
{lines}
[tunnel.auth]
psk_file = "to-b.psk"
"""


def test_a_good_one_is_good(lines_of):
    assert lines_of(TARGET + 'source = "10.1.0.1"\ninterval = "1s"\nthreshold = 2\naction = "wait-recover"') == []


@pytest.mark.parametrize(
    ("monitor", "lines", "said"),
    [
        ("", NETS, "monitor.target: is missing"),
        (
            'target = "10.3.0.9"',
            NETS,
            "monitor.target: no proxy ID carries a ping to 10.3.0.9; write an address inside 10.2.0.0/24",
        ),
        (TARGET, NETS + '\n  protocol = "tcp"', "monitor.target: no proxy ID carries a ping to 10.2.0.9"),
        (TARGET + 'source = "10.9.0.1"', NETS, "monitor.source: no proxy ID carries a ping from 10.9.0.1 to 10.2.0.9"),
        (TARGET + 'interval = "0s"', NETS, "monitor.interval: 0s is too little"),
        (TARGET + "threshold = 0", NETS, "monitor.threshold: 0 cannot be"),
        (TARGET + 'action = "panic"', NETS, 'monitor.action: "panic" is not taken here'),
        (TARGET, "", "monitor.source: is missing where any would do"),
        (TARGET + 'action = "fail-over"', NETS, "monitor.action: warning: no other tunnel has a route for the same prefix"),
    ],
)
def test_a_wrong_one_gets_one_line(lines_of, monitor, lines, said):
    found = lines_of(monitor, lines=lines)
    assert [line for line in found if line.startswith(said)], found


def test_a_tunnel_with_an_address_asks_from_it(lines_of):
    assert lines_of(TARGET, lines='address = ["169.254.10.1/30"]') == []


def test_fail_over_needs_an_interface_of_its_own(lines_of):
    second = SECOND.format(interface="ipsec0", lines=NETS.replace("10.2.0.0", "10.4.0.0"))
    said = (
        'monitor.action: fail-over takes the routes of ipsec0 away, which tunnel "second" shares; give this tunnel an interface of'
    )
    assert any(line.startswith(said) for line in lines_of(TARGET + 'action = "fail-over"', more=second))


def test_fail_over_to_a_tunnel_with_a_worse_route_is_good(lines_of):
    second = SECOND.format(interface="ipsec1", lines='routes = "none"\n' + NETS)
    route = '[[route]]\nprefix = "10.2.0.0/24"\ntunnel = "second"\nmetric = 60\n'
    assert lines_of(TARGET + 'action = "fail-over"', more=second + route) == []


def test_probes_that_a_policy_sends_elsewhere_are_refused(lines_of):
    policy = '[[policy]]\naction = "discard"\nremote = "10.2.0.9"\nprotocol = "icmp"\n'
    assert [
        line for line in lines_of(TARGET, more=policy) if line.startswith("monitor.target: a ping to 10.2.0.9 is under discard")
    ]


# ---- what a person sees ----------------------------------------------------------------------------------------------------------


def test_the_table_has_a_column_where_there_is_a_monitor():
    up = {"name": "a", "monitor": {"state": "up", "rtt_ms": 1.25, "lost_in_a_row": 0}}
    down = {"name": "b", "monitor": {"state": "down", "rtt_ms": 1.25, "lost_in_a_row": 7}}
    table = tunnel_table(msgspec.convert([up, down, {"name": "c", "monitor": None}], list[TunnelStatus]))
    cells = [str(row[-1]) for row in table.rows]
    assert cells == ["up, 1.25 ms", "down, 7 lost in a row", "-"]
    assert len(tunnel_table([TunnelStatus(name="c")]).columns) == len(table.columns) - 1
