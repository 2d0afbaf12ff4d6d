"""Fuzz target: ICMP messages from anybody may raise nothing, and what is read of them keeps its bounds.

`python -m tests.fuzz.fuzz_too_big` from the top of the repository; `target` says for how long and where findings go.
"""

import atheris

from tests.fuzz import target

with atheris.instrument_imports(include=["ipsec_dp.host.too_big"]):
    from ipsec_dp.host.too_big import read_v4, read_v6

ESP = bytes.fromhex("000010020000002a") + bytes(40)
UDP = bytes.fromhex("11941194") + bytes(4)
V4 = bytes.fromhex("4500056400004000") + bytes([64, 17, 0, 0]) + bytes(8)
V6 = bytes.fromhex("600000000564") + bytes([50, 64]) + bytes(32)
SEEDS = (
    b"\4" + bytes([0x45, *bytes(19)]) + bytes.fromhex("0304000000000514") + V4 + UDP + ESP,
    b"\6" + bytes.fromhex("0200000000000500") + V6 + ESP,
)


def one(data: bytes) -> None:
    if not data:
        return
    said = (read_v4 if data[0] & 1 == 0 and data[0] < 5 else read_v6)(data[1:])
    if said is None:
        return
    assert 0 <= said.mtu < said.octets <= 40 + 65535
    assert 0 < said.spi < 2**32
    assert 0 <= said.sequence < 2**32
    assert said.local.version == said.remote.version


if __name__ == "__main__":
    target.run("too_big", one, SEEDS)
