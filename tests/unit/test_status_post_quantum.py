"""What `status` says of post-quantum keys: both answers are always there, and one word stands in the text."""

from __future__ import annotations

import msgspec
import pytest

from ipsec_dp.cli.render import child_table, tunnel_table
from ipsec_dp.gateway.status import ChildSaStatus, TunnelStatus
from ipsec_dp.ike.post_quantum import UNPROTECTED, PostQuantum
from ipsec_dp.ike.proposal import parse_ike
from ipsec_dp.ike.suites import ike_suite
from ipsec_dp.keying.status import IkeSaStatus, PostQuantumStatus


def suite(words):
    return ike_suite(*parse_ike([words]))


WITHOUT, ADDED = suite("aes128gcm16-prfsha256-x25519"), suite("aes128gcm16-prfsha256-x25519-ke1_mlkem1024")


def test_both_answers_are_always_there():
    for made in (IkeSaStatus(), ChildSaStatus()):
        assert msgspec.to_builtins(made)["post_quantum"] == {"ike": "none", "child": "none"}
    assert msgspec.to_builtins(PostQuantumStatus.of(PostQuantum("mlkem768", "inherited"))) == {
        "ike": "mlkem768",
        "child": "inherited",
    }


def test_the_text_has_one_word():
    ike = IkeSaStatus(post_quantum=PostQuantumStatus(ike="mlkem768", child="inherited"))
    child = ChildSaStatus(post_quantum=PostQuantumStatus(ike="mlkem768", child="inherited"))
    tunnels = [TunnelStatus(ike=ike, children=(child,)), TunnelStatus()]
    assert [cells[6].plain for cells in tunnel_table(tunnels).rows] == ["mlkem768", "-"]
    assert [cells[3].plain for cells in child_table(tunnels).rows] == ["inherited"]


@pytest.mark.parametrize(
    ("found", "own", "child"),
    [
        (UNPROTECTED, "none", "none"),
        (UNPROTECTED.with_exchange(ADDED.additional[0].method), "mlkem1024", "inherited"),
        (UNPROTECTED.with_exchange(WITHOUT.group), "none", "none"),
        (UNPROTECTED.with_keys("ppk"), "ppk", "inherited"),
        (UNPROTECTED.with_seed("ppk"), "none", "ppk"),
        (UNPROTECTED.with_exchange(ADDED.additional[0].method).with_seed("ppk"), "mlkem1024", "inherited"),
        (UNPROTECTED.rekeyed(WITHOUT), "none", "none"),
        (UNPROTECTED.rekeyed(ADDED), "mlkem1024", "inherited"),
        (UNPROTECTED.with_seed("ppk").rekeyed(WITHOUT), "inherited", "inherited"),
        (UNPROTECTED.with_keys("ppk").rekeyed(WITHOUT).rekeyed(WITHOUT), "inherited", "inherited"),
    ],
)
def test_what_follows_from_what(found, own, child):
    assert (found.own, found.child()) == (own, child)
