"""Both sites do at random what operators, packets and limits ask for, over a wire that loses, doubles and reorders.

Nothing may raise, the SAD may never be asked for what it cannot do (`FakeSad` checks every step), and once all is terminated
nothing is left on either side: no SA, no SPI, no timer, no entry in an index.
"""

import random

import pytest

from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.peer import Life, Liveness
from ipsec_dp.ike.proposal import parse_esp

from .ladder import ESP, OTHER, Ladder, packet, peer, proxy_id

PFS = parse_esp(["aes128gcm16-x25519-ecp256-esn-noesn"])
NETS = [("10.1.{}", "10.2.{}"), ("10.2.{}", "10.1.{}")]


def a_peer(site, draw, life):
    ours, theirs = NETS[site == "b"]
    count = draw.randint(1, 3)
    nets = tuple(proxy_id(f"{ours.format(n)}.0/24", f"{theirs.format(n)}.0/24") for n in range(count))
    start, esp = draw.choice(["start", "on-demand"]), draw.choice([ESP, ESP, PFS])
    return peer(site, proxy_ids=nets, start=start, esp_proposals=esp, **life)


def a_packet(site, draw):
    ours, theirs = NETS[site == "b"]
    number = draw.randint(0, 2)
    return packet(f"{ours.format(number)}.5", f"{theirs.format(number)}.5")


def something(ladder, site, draw):
    """One thing that can happen at a site."""
    core, now = site.core, ladder.clock()
    child = draw.choice([*site.sad.inbound, 1])
    match draw.choice(["rekey"] * 3 + ["rekey ike"] * 3 + ["packet"] * 3 + ["delete", "soft", "hard", "terminate", "initiate"]):
        case "rekey":
            site.do(core.rekey(site.tunnel, now))
        case "rekey ike":
            site.do(core.rekey(site.tunnel, now, ike=True))
        case "packet":
            asks = a_packet(site.name, draw)
            actions = core.acquire(site.tunnel, asks, now)
            if actions is None:
                ladder.initiate(site.name, asks=asks)
            else:
                site.do(actions)
        case "delete":
            site.do(core.delete_child(site.tunnel, child, now))
        case "soft":
            site.do(core.soft_limit(site.tunnel, child, now))
        case "hard":
            site.do(core.hard_limit(site.tunnel, child, now))
        case "terminate":
            site.do(core.terminate(site.tunnel, now))
        case "initiate":
            ladder.initiate(site.name)


def a_fault(ladder, draw, used):
    for sender in ("a", "b"):
        number = ladder.wire.sent(sender, OTHER[sender]) + draw.randint(1, 3)
        if draw.random() < 0.3 and (sender, number) not in used:
            used.add((sender, number))
            getattr(ladder.wire, draw.choice(["drop", "double", "delay"]))(sender, OTHER[sender], number)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_nothing_is_left(seed):
    draw = random.Random(seed)
    life = {
        "child_life": Life(draw.choice([20.0, 60.0, 3600.0]), idle_s=draw.choice([0.0, 0.0, 15.0])),
        "ike_life": Life(draw.choice([40.0, 100.0, 9999.0])),
        "liveness": Liveness(draw.choice([0.0, 5.0]), 3),
    }
    ladder = Ladder(a=[a_peer("a", draw, life)], b=[a_peer("b", draw, life)], seed=seed)
    used: set[tuple[str, int]] = set()
    for _ in range(30):
        a_fault(ladder, draw, used)
        something(ladder, ladder.sites[draw.choice("ab")], draw)
        if draw.random() < 0.5:
            for _ in range(draw.randint(0, 3)):
                ladder.deliver(draw.choice("ab"))
        else:
            ladder.run(draw.choice([0.1, 1, 3, 10, 30]))
        for site in ladder.sites.values():  # said without looking at all that `latest` tells
            told = site.core.latest(site.tunnel, ladder.clock())
            assert site.core.has_ike_sa(site.tunnel) is any(one.state != "closing" for one in told)
    for _ in range(2):  # what was begun while the first DELETE was under way goes with the second
        for site in ladder.sites.values():
            site.do(site.core.terminate(site.tunnel, ladder.clock()))
        ladder.run(500)
    for site in ladder.sites.values():
        assert not site.sad.inbound
        assert not site.sad.reserved
        counted = site.core.counters()
        assert (counted.sessions, counted.half_open) == (0, 0)
        assert site.core.empty
        assert site.core.next_timeout() is None
    assert Kind.IKE_UP in ladder.a.kinds()
