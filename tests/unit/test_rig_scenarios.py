"""What gateways and daemons are asked alike (tests/netns/test_rig_both.py), in memory: each scenario ends as it is meant to."""

from __future__ import annotations

import pytest

from tests.netns import rig_runner
from tests.netns.rig_scenarios import GROUPS


@pytest.mark.parametrize("group", GROUPS, ids=[group.name for group in GROUPS])
def test_scenarios_end_as_they_are_meant_to(group):
    met = rig_runner.outcomes("memory", rig_runner.authorities(), [group])
    assert {name: (each.stuck, each.ends) for name, each in met.items() if not each.as_meant} == {}
