"""What the tests of SAs by themselves share: some, packets, and why one is dropped or a call refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ipsec_dp.dataplane import DROP_SENTENCES
from ipsec_dp.errors import DataPlaneError
from ipsec_dp.ipsec.suites import parse_suite
from ipsec_dp.rig.gateway import keymat
from ipsec_dp.rig.packets import udp_of_size
from ipsec_dp.rig.security_association import DroppedError, SecurityAssociation

if TYPE_CHECKING:
    from ipsec_dp.dataplane import Batch

SPI = 0x1001
SIZES = (28, 29, 64, 65, 1420, 9000)
PACKETS = [udp_of_size("10.1.0.1", "10.2.0.1", size) for size in SIZES]


def key(suite: str) -> bytes:
    return bytes(keymat(parse_suite(suite), "k"))


def sa_of(suite: str = "aes128gcm16", **settings: Any) -> SecurityAssociation:
    return SecurityAssociation(suite, key(suite), **{"spi": SPI, **settings})


def reason(call, *arguments, **settings) -> str:
    """Why a packet is dropped; its sentence is in the text."""
    with pytest.raises(DroppedError) as caught:
        call(*arguments, **settings)
    assert str(caught.value) == f"{caught.value.reason}: {DROP_SENTENCES[caught.value.reason]}"
    return caught.value.reason


def refused(call, *arguments, **settings) -> int:
    with pytest.raises(DataPlaneError) as caught:
        call(*arguments, **settings)
    return caught.value.errno


def reasons(burst: Batch) -> list[str]:
    return [burst.reason(row) for row in range(burst.rows)]
