"""As `test_every_step`, of every ladder that there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ike import ladder
from tests.ike.carried.carrying import carried_at_every_step, ladders_of

# Module -> why nothing of it can be carried.
LEFT_OUT = {
    "trial": "its gateways begin and end with the trial",
    "rekey": "`test_every_step` has it",
}
ROOM = Path(ladder.__file__).parent
NAMES = sorted(path.stem.removeprefix("test_ladder_") for path in ROOM.glob("test_ladder_*.py"))
MODULES = [name for name in NAMES if name not in LEFT_OUT]
# A storm carries fourteen IKE SAs after each of two thousand steps: half a minute of a processor, which others may want too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
globals().update(ladders_of(*MODULES))
# Fixtures that these tests have in their own modules.
for name in MODULES:
    module = vars(__import__(f"{ladder.__name__.rpartition('.')[0]}.test_ladder_{name}", fromlist=["_"]))
    globals().update({key: value for key, value in module.items() if type(value).__name__ == "FixtureFunctionDefinition"})


@pytest.fixture(autouse=True, params=["a", "b"])
def carried(request, monkeypatch):
    with carried_at_every_step(monkeypatch, request.param):
        yield
