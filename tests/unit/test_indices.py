"""Numbers of tunnels and interfaces stay, and come back late."""

from __future__ import annotations

import pytest

from ipsec_dp.databases.indices import Indices, IndicesUsedUpError


def test_a_name_keeps_its_number_whatever_comes_and_goes():
    numbers = Indices(8, "tunnel")
    assert [numbers.take(name) for name in ("a", "b", "c", "b")] == [0, 1, 2, 1]
    assert numbers.release(["a", "unknown"]) == [0]
    assert (numbers.of, numbers.names) == ({"b": 1, "c": 2}, {1: "b", 2: "c"})
    assert numbers.take("c") == 2


def test_names_may_begin_with_the_numbers_that_they_had_elsewhere():
    numbers = Indices(5, "tunnel")
    numbers.take("before")
    numbers.begin_with({"a": 3, "too high": 5, "b": 1, "twice": 3, "below": -1})
    assert (numbers.of, numbers.names) == ({"a": 3, "b": 1}, {3: "a", 1: "b"})
    assert [numbers.take(name) for name in ("a", "c", "d", "e")] == [3, 4, 0, 2]
    with pytest.raises(IndicesUsedUpError):
        numbers.take("f")


def test_a_number_given_back_rests_until_nothing_speaks_of_it():
    numbers = Indices(2, "tunnel")
    numbers.take("a")
    numbers.take("b")
    numbers.release(["a"])
    with pytest.raises(IndicesUsedUpError, match="more than 2 tunnels since the gateway started"):
        numbers.take("c")
    numbers.reuse()
    assert numbers.take("c") == 0
