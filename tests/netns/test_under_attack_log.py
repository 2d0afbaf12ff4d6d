"""The log of a gateway under attack: few lines, and nothing in them that a stranger wrote there.

    hostA eth0 -- lan gwA wan == wan gwB net == strangers (198.18.0.0/15)
                                     lan -- eth0 hostB

gwB is attacked; gwA is its genuine peer. Each bar has a short form, and a full one that measures and prints its figures.
"""

from __future__ import annotations

import json
import re

import pytest

from tests.netns.strangers import Strangers
from tests.netns.traffic import until
from tests.netns.under_attack import FULL, A, hub, most_in_a_second, printed, told_at

LINES_A_SECOND = 10


ALONE = ("ESP", "ESP in UDP", "garbage on 500", "garbage on 4500", "a request", "a request on 4500", "IKEv1")
TOLD = ("all", "ESP", "ESP in UDP", "IKEv1")


@pytest.mark.parametrize(
    ("kind", "source", "seconds"),
    [
        pytest.param("all", "", 2.0, id="short"),
        pytest.param("all", A, 2.0, id="short, from the peer's address"),
        pytest.param("all", "", 20.0, id="full", marks=FULL),
        pytest.param("all", A, 20.0, id="full, from the peer's address", marks=FULL),
        *(pytest.param(kind, "", 10.0, id=f"full, {kind}", marks=FULL) for kind in ALONE),
    ],
)
def test_whatever_comes_the_log_grows_slowly(attacked, kind, source, seconds, record_property):
    """A8: there was a line for each forged datagram, 32,000 in 8 s. Fifty of the strangers' addresses are those of peers."""
    gateways = attacked(tunnels=2, peers=50)
    since = len(gateways.b.text())
    sent = gateways.begin("noise", source=source, kind=kind, rate=2000.0, seconds=seconds).end(seconds + 60.0)
    until(lambda: len(told_at(gateways.b, since)) >= (kind in TOLD), "it is in the log, which a thread writes")
    times = told_at(gateways.b, since)
    most = most_in_a_second(times)
    text = f"{len(times)} lines in {seconds:g} s, {most} in a second at most, of {sent['sent']} datagrams"
    printed(record_property, f"{kind} from {source or 'anywhere'}: {text}")
    assert most <= LINES_A_SECOND
    assert hub(gateways.a)["state"] == "up"


LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ [A-Z]+ ")


@pytest.mark.parametrize("kind", ["controls in an identity", "controls in a DN", "controls in a certificate"])
@pytest.mark.parametrize("first", ["198.18.0.1", A], ids=["from anywhere", "from the peer's address"])
def test_what_a_stranger_writes_into_names_writes_nothing_else(attacked, kind, first):
    """A9: newlines and ESC of a certificate's name reached the log and `last_error` before anybody was authenticated."""
    gateways = attacked(tunnels=2, up=False)
    if first == A:
        assert gateways.a.terminate() == 0
    there = gateways.sites.gw_a if first == A else gateways.strangers
    pem = str(gateways.directory)
    sent = Strangers.begin(there, "auth_flood", kind=kind, rate=1.0, seconds=1.0, pem=pem, first=first, patience=30.0).end(60.0)
    assert sent == {"sent": 1, "answered": 1}
    until(lambda: "IKE SA failed" in gateways.b.text(), "it is in the log, which a thread writes")
    text, status = gateways.b.text(), gateways.b.status()
    told = [line for line in text.splitlines() if "IKE SA failed" in line]
    assert len(told) == 1
    assert ("owned" in told[0]) is (kind == "controls in a DN"), (
        "what is no domain name, or another's certificate, is not even named"
    )
    assert [line for line in text.splitlines() if not LINE.match(line)] == []
    assert [line for line in text.splitlines() if line[LINE.match(line).end() :].startswith("down")] == []  # type: ignore[union-attr]
    shown = "".join(tunnel["last_error"] or "" for tunnel in status["tunnels"])
    assert ("owned" in shown) is (first == A and kind == "controls in a DN")
    assert all(each.isprintable() for each in text.replace("\n", "") + json.dumps(status, ensure_ascii=False))
