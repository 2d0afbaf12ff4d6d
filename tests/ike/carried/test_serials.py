"""Whoever hands state over knows which export was the last, and that nobody has imported it."""

from __future__ import annotations

import pytest

from ipsec_dp.ike.carried.part import CarriedStateError
from ipsec_dp.ike.carried.serials import LastExport

A, B = (b"a" * 8, b"b" * 8, True), (b"c" * 8, b"d" * 8, False)


def last_of(*exports):
    last = LastExport()
    for one in exports:
        last.note(one)
    return last


def refuses(last, serials):
    with pytest.raises(CarriedStateError):
        last.admit(serials)
    return True


def test_the_last_export_is_admitted_once():
    last = last_of({A: (1, False)}, {A: (2, False), B: (1, False)})
    last.admit({A: (2, False), B: (1, False)})
    assert refuses(last, {A: (2, False), B: (1, False)})
    last.note({A: (3, False), B: (2, False)})
    last.admit({A: (3, False), B: (2, False)})


@pytest.mark.parametrize(
    "other",
    [
        {A: (1, False), B: (2, False)},
        {A: (2, False), B: (1, False)},
        {A: (2, False)},
        {A: (2, True), B: (2, False)},
        {A: (3, False), B: (2, False)},
        {A: (2, False), B: (2, False), (*A[:2], False): (1, False)},
        {},
    ],
)
def test_any_other_one_is_refused(other):
    last = last_of({A: (1, False), B: (1, False)}, {A: (2, False), B: (2, False)})
    assert refuses(last, other)
    last.admit({A: (2, False), B: (2, False)})  # the control: nothing was taken by that


def test_an_exact_export_is_after_all_strides_that_were_reserved():
    last = last_of({A: (2, False)}, {A: (2, True)})
    assert refuses(last, {A: (2, False)})
    last.admit({A: (2, True)})
    last.note({A: (3, False)})


@pytest.mark.parametrize("serial", [(1, False), (1, True), (2, False)])
def test_an_earlier_export_is_not_noted_after_a_later_one(serial):
    last = last_of({A: (2, False)})
    with pytest.raises(CarriedStateError):
        last.note({A: serial, B: (7, False)})
    last.admit({A: (2, False)})


def test_before_any_export_nothing_is_admitted():
    assert refuses(LastExport(), {})
    assert refuses(LastExport(), {A: (1, False)})
