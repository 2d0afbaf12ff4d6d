"""SPIs in text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipsec_dp.ipsec.spi import spi_text

PACKAGE = Path(__file__).resolve().parents[2] / "ipsec_dp"
ECHOED = {"config/auth.py"}  # what a person wrote and is no SPI, said back as it is


@pytest.mark.parametrize(("spi", "text"), [(0x100, "0x00000100"), (0xFFFFFFFF, "0xffffffff"), (0, "0x00000000"), (None, "none")])
def test_eight_digits_however_small_it_is(spi, text):
    assert spi_text(spi) == text


def test_nobody_writes_one_in_another_way():
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"spi\w*:#?\w*x\}", path.read_text()) and path.name != "spi.py"
    }
    assert found == ECHOED
