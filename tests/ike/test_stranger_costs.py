"""What a stranger's message costs stays below the ceiling, whatever it is and however many tunnels there are; in short."""

import pytest

from benchmarks import strangers
from benchmarks.strangers import CEILING_OCTETS, CEILING_S, Cost, costs, main, table

HERE = (1, 100)
EACH = 3

pytestmark = [pytest.mark.measure, pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields")]


@pytest.fixture(scope="module")
def found():
    return [cost for tunnels in HERE for cost in costs(tunnels, EACH)]


def test_no_message_costs_more_than_the_ceiling(found):
    above = [line for line, cost in zip(table(found), found, strict=True) if cost.octets > CEILING_OCTETS]
    assert above == []
    assert max(found, key=lambda one: one.seconds).seconds <= CEILING_S, "\n".join(table(found)[:5])


def test_it_costs_the_same_beside_a_hundred_tunnels(found):
    """Within what one run differs from the next: half a millisecond, or twice."""
    one, many = ({each.kind: each.seconds for each in found if each.tunnels == tunnels} for tunnels in HERE)
    assert one.keys() == many.keys()
    assert {kind: (one[kind], many[kind]) for kind in one if many[kind] > 2 * one[kind] + 0.0005} == {}


@pytest.mark.parametrize("name", ["CEILING_S", "CEILING_OCTETS"])
def test_what_is_above_it_fails_the_run(monkeypatch, capsys, name):
    monkeypatch.setattr(strangers, name, 0)
    assert main(["--tunnels", "2", "--each", "1"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("worst: ")


def test_the_worst_comes_first():
    rows = [Cost("small", 1, 0.001, 100), Cost("slow", 1, 0.02, 0), Cost("large", 1, 0.0, 64 * 1024)]
    assert [line.split()[0] for line in table(rows)] == ["large", "slow", "small"]
