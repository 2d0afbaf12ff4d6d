"""The search for a loss-free rate, on paths whose rate is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsec_dp.bench.search import FLOOR, PRECISION, TRIES_MAX, Attempt, loss_free_rate


class Path:
    """Carries up to `limit` packets a second; its sender sends up to `sender`."""

    def __init__(self, limit: float, sender: float = 1e12) -> None:
        self.limit, self.sender, self.tried = limit, sender, 0

    def attempt(self, rate: float) -> Attempt:
        self.tried += 1
        sent = min(rate, self.sender)
        return Attempt(sent, sent <= self.limit)


@given(st.floats(FLOOR * 2, 1e7), st.floats(1e3, 1e6), st.booleans())
def test_it_finds_the_limit_to_the_precision_from_any_guess(limit, guess, warm):
    path = Path(limit)
    found = loss_free_rate(path.attempt, guess, warm=warm)
    assert found <= limit <= found * (1 + PRECISION) * 1.0001
    assert path.tried < TRIES_MAX


@pytest.mark.parametrize(("limit", "tries"), [(100_000, 2), (104_900, 2), (99_000, 2), (97_000, 2), (115_000, 5)])
def test_from_a_good_guess_it_takes_few_tries(limit, tries):
    path = Path(limit)
    assert limit / (1 + PRECISION) ** 1.01 <= loss_free_rate(path.attempt, 100_000, warm=True) <= limit
    assert path.tried <= tries


def test_what_the_sender_can_do_is_the_answer_when_the_path_carries_more():
    path = Path(limit=1e9, sender=180_000)
    assert loss_free_rate(path.attempt, 100_000, warm=False) == 180_000
    assert path.tried == 2


def test_a_path_that_carries_nothing_has_the_rate_0():
    assert loss_free_rate(Path(0).attempt, 50_000, warm=False) == 0


def test_a_sender_that_lags_a_little_is_not_the_limit():
    """2 % below the rate asked for is the scheduler, and the search goes on."""
    path = Path(200_000)
    found = loss_free_rate(lambda rate: Attempt(rate * 0.98, path.attempt(rate).loss_free), 100_000, warm=False)
    assert 0.98 * 200_000 / (1 + PRECISION) ** 2 <= found <= 200_000
