"""`up --trace-ike`: a line for each ISAKMP message too, with what it is and holds, and never a value."""

import re

from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.peer import SharedKeyAuth
from tests.ike.test_trace import Lines

from .gateways import Gateways, aggressive, peer


def without_values(line):
    """Without addresses, sizes, cookies and message IDs."""
    line = re.sub(r"[0-9.]+:[0-9]+ > [0-9.]+:[0-9]+ ", "", line)
    return re.sub(r" 0x[0-9a-f]{8}| [0-9]+ octets [0-9a-f]{16}_[0-9a-f]{16}", "", line)


def test_a_tunnel_comes_up_in_lines():
    lines = Lines()
    gateways = Gateways(trace=lines)
    gateways.start("a")
    assert [without_values(line) for line in lines.all] == [
        f"out IKEv1 main mode []: SA(1 transform) {'VENDOR-ID(16 octets) ' * 5}VENDOR-ID(20 octets)",
        "in IKEv1 main mode []: SA(1 transform) VENDOR-ID(16 octets) VENDOR-ID(16 octets) VENDOR-ID(20 octets)",
        "out IKEv1 main mode []: KE(64 octets) NONCE(32 octets) NAT-D(32 octets) NAT-D(32 octets)",
        "in IKEv1 main mode []: KE(64 octets) NONCE(32 octets) NAT-D(32 octets) NAT-D(32 octets)",
        "out IKEv1 main mode [E]: ID(type 2, 11 octets) HASH(32 octets) NOTIFICATION(INITIAL-CONTACT)",
        "in IKEv1 main mode [E]: ID(type 2, 11 octets) HASH(32 octets)",
        "out IKEv1 quick mode [E]: HASH(32 octets) SA(1 transform) NONCE(32 octets) ID(type 4, 8 octets) ID(type 4, 8 octets)",
        "in IKEv1 quick mode [E]: HASH(32 octets) SA(1 transform) NONCE(32 octets) ID(type 4, 8 octets) ID(type 4, 8 octets)",
        "out IKEv1 quick mode [E]: HASH(32 octets)",
    ]


def test_a_repeat_and_what_nobody_can_read_are_told_apart():
    lines = Lines()
    gateways = Gateways(trace=lines)
    gateways.wire.drop("a", "b", 1)
    gateways.initiate("a")
    gateways.run(2)
    assert "again: IKEv1 main mode" in lines.all[1]
    gateways.a.trace.arrived(b"x" * 40, gateways.path("a"))
    gateways.a.trace.handled()
    assert "cannot be read" in lines.all[-1]


def test_a_message_in_fragments_is_a_line_each_and_whole_with_the_last_one():
    lines = Lines()
    gateways = Gateways([peer("a", datagram=200)], [peer("b", datagram=200)], trace=lines)
    gateways.start("a")
    shown = [without_values(line) for line in lines.all]
    assert shown[2:6] == [
        "out IKEv1 fragment 1",
        "out IKEv1 fragment 2",
        "in IKEv1 fragment 1",
        "in IKEv1 main mode []: KE(64 octets) NONCE(32 octets) NAT-D(32 octets) NAT-D(32 octets)",
    ]


def test_what_is_not_opened_and_what_refuses_in_clear_are_named_too():
    """As with another secret, and with another mode, on the other side."""
    lines = Lines()
    gateways = Gateways([peer("a")], [peer("b", auth=SharedKeyAuth(PreSharedKey.from_text("quite another secret")))], trace=lines)
    gateways.initiate("b")
    gateways.run(1)
    assert "in IKEv1 main mode [E]: not opened" in [without_values(line) for line in lines.all]
    lines = Lines()
    gateways = Gateways([peer("a")], [aggressive("b")], trace=lines)
    gateways.initiate("b")
    gateways.run(1)
    shown = [without_values(line) for line in lines.all]
    assert "out IKEv1 informational []: NOTIFICATION(INVALID-EXCHANGE-TYPE)" in shown
