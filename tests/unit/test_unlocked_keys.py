"""What a gateway says of keys that may reach swap: once, and where there is some."""

from __future__ import annotations

import pytest

from ipsec_dp.gateway import unlocked_keys
from ipsec_dp.util.conditions import Conditions
from tests.doubles.clock import FakeClock

NO_SWAP = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
SWAP = NO_SWAP + "/dev/vda2                               partition\t1048572\t\t0\t\t-2\n"


@pytest.fixture
def conditions():
    return Conditions(FakeClock())


@pytest.mark.parametrize(
    ("locked", "swaps", "told"),
    [(False, SWAP, True), (False, None, True), (False, NO_SWAP, False), (True, SWAP, False)],
    ids=["swap", "not to be read", "no swap", "locked"],
)
def test_ikes_keys_that_may_reach_swap_are_a_condition_with_its_remedy(conditions, tmp_path, caplog, locked, swaps, told):
    path = tmp_path / "swaps"
    if swaps is not None:
        path.write_text(swaps)
    unlocked_keys.tell(conditions, locked=locked, swaps=path)
    assert conditions.texts == [record.message for record in caplog.records]
    assert [text for text in conditions.texts if unlocked_keys.IKES in text and unlocked_keys.REMEDY in text] == conditions.texts
    assert len(conditions.texts) == told
