"""Anti-replay through the C core: the numbered table, and any history against an oracle that remembers every number."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.dataplane.parts import run_replay
from ipsec_dp.errors import DataPlaneError

TABLE = Path(__file__).parent.parent / "vectors" / "replay.txt"
STEP = re.compile(r"^STEP\((\d+), (\d+), ([01]), (0x\w+), (0x\w+), (\w+)\)$", re.MULTILINE)
WINDOWS = [64, 128, 256, 512, 1024, 2048, 4096, 8192]


def cases() -> dict[int, list[tuple[int, bool, int, int, str]]]:
    """Steps by case: window, ESN, low half received, number inferred, verdict."""
    steps: dict[int, list[tuple[int, bool, int, int, str]]] = {}
    for number, window, esn, low, inferred, verdict in STEP.findall(TABLE.read_text()):
        steps.setdefault(int(number), []).append((int(window), esn == "1", int(low, 16), int(inferred, 16), verdict))
    return steps


class Oracle:
    """RFC 4303 §3.4.3 with a set. Inference by trying: of the numbers that end in `low`, the one in or next after the window."""

    def __init__(self, window: int, esn: bool) -> None:
        self.window, self.esn = window, esn
        self.highest = 0
        self.seen: set[int] = set()

    def infer(self, low: int) -> int:
        if not self.esn:
            return low
        bottom = max(self.highest - self.window + 1, 0)
        number = (bottom >> 32 << 32) + low
        return number if number >= bottom else number + (1 << 32)

    def receive(self, low: int) -> tuple[int, str]:
        number = self.infer(low)
        if number == 0 or (number in self.seen and self.highest - number < self.window):
            return number, "replay"
        if self.highest - number >= self.window:
            return number, "too_old"
        self.seen.add(number)
        self.highest = max(self.highest, number)
        return number, "ok"


@pytest.mark.parametrize("case", cases().items(), ids=lambda case: f"case-{case[0]}")
def test_the_numbered_table(case):
    _, steps = case
    window, esn = steps[0][:2]
    assert run_replay(window, esn, [low for _, _, low, _, _ in steps]) == [(inferred, verdict) for *_, inferred, verdict in steps]


@pytest.mark.parametrize("case", cases().items(), ids=lambda case: f"case-{case[0]}")
def test_the_oracle_agrees_with_the_table(case):
    _, steps = case
    oracle = Oracle(*steps[0][:2])
    assert [oracle.receive(low) for _, _, low, _, _ in steps] == [(inferred, verdict) for *_, inferred, verdict in steps]


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, bool, list[int]]:
    """A walk: mostly small steps about the window's size in either direction, some leaps, from anywhere."""
    window = draw(st.sampled_from(WINDOWS))
    near = st.integers(-window - 70, window + 70)
    edge = st.sampled_from([-window - 1, -window, -window + 1, -64, -1, 0, 1, 63, 64, 65, window - 1, window, window + 64])
    leap = st.integers(-(1 << 32), 1 << 32)
    number = draw(st.one_of(st.integers(0, 200), st.integers((1 << 32) - 200, (1 << 32) + 200), st.integers(0, 1 << 32)))
    walk = []
    for step in draw(st.lists(st.one_of(near, edge, st.integers(-3, 3), leap), min_size=1, max_size=80)):
        number = max(number + step, 0)
        walk.append(number & 0xFFFFFFFF)
    return window, draw(st.booleans()), walk


@given(histories())
def test_any_history_is_decided_as_the_oracle_decides(history):
    window, esn, walk = history
    oracle = Oracle(window, esn)
    assert run_replay(window, esn, walk) == [oracle.receive(low) for low in walk]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("esn", [False, True])
def test_a_window_sent_backwards_is_taken_whole_and_once(window, esn):
    backwards = list(range(10 * window, 9 * window, -1))
    verdicts = [verdict for _, verdict in run_replay(window, esn, backwards * 2)]
    assert verdicts == ["ok"] * window + ["replay"] * window


@pytest.mark.parametrize("window", [0, 32, 63, 65, 100, 16384, 4294967295])
def test_other_windows_are_refused(window):
    with pytest.raises(DataPlaneError):
        run_replay(window, False, [1])
