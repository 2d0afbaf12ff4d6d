"""Fuzz target: parts of ISAKMP messages in any order, of any numbers and ends, become nothing but what was said to be whole.

An input is a series of datagrams: a length, then what follows a header. What is held stays within the limits, parts raise nothing
but `IkeError`, and what becomes whole has the length that its header says and is made of parts that came.
"""

import contextlib
from collections.abc import Iterator

import atheris

with atheris.instrument_imports(include=["ipsec_dp.ike"]):
    from ipsec_dp.ike.errors import IkeError
    from ipsec_dp.ike.strangers import LIMITS
    from ipsec_dp.ike.v1.fragment import IsakmpFragments, is_whole
    from ipsec_dp.ike.v1.message import IsakmpHeader, build_clear, parse_fragment
    from ipsec_dp.ike.v1.payloads import FragmentPayload
    from ipsec_dp.ike.v1.wire import HEADER

from tests.fuzz import target

CLEAR = IsakmpHeader(b"\1" * 8, b"\2" * 8, 2, 0, 0)
MAY_HOLD = 20_000  # octets, where the first octet of an input says so


def datagrams(data: bytes) -> Iterator[bytes]:
    while len(data) > 2:
        octets = int.from_bytes(data[:2], "big") % 2048
        yield data[2 : 2 + octets]
        data = data[2 + octets :]


def receive(data: bytes) -> None:
    """One ISAKMP SA gets them all, a second apart."""
    reassembler, limited, came = IsakmpFragments(), bool(data[:1] and data[0] & 1), set[bytes]()

    def may_hold(octets: int) -> bool:
        return not limited or octets <= MAY_HOLD

    for now, body in enumerate(datagrams(data[1:])):
        with contextlib.suppress(IkeError):
            piece = parse_fragment(body)
            came.add(piece.data)
            whole = reassembler.add(piece.id, piece, float(now), may_hold)
            assert reassembler.octets <= (MAY_HOLD if limited else 2 * LIMITS.fragment_octets)
            if whole is not None:
                assert is_whole(whole)
                assert piece.data in whole
                assert any(whole.startswith(one) for one in came)
                assert any(whole.endswith(one) for one in came)
    reassembler.expire(reassembler.deadline)
    assert reassembler.octets == 0


def series(*parts: FragmentPayload) -> bytes:
    bodies = [build_clear(CLEAR, [part])[HEADER:] for part in parts]
    return b"\0" + b"".join(len(body).to_bytes(2, "big") + body for body in bodies)


def seeds() -> Iterator[bytes]:
    message = bytes(24) + (90).to_bytes(4, "big") + b"x" * 62
    parts = [FragmentPayload(1, number, number == 3, message[(number - 1) * 30 : number * 30]) for number in (1, 2, 3)]
    other = FragmentPayload(1, 2, True, b"y" * 30)
    yield from (series(*parts), series(*reversed(parts)), series(*parts, *parts), series(other, *parts, other, *parts))


if __name__ == "__main__":
    target.run("isakmp_fragments", receive, seeds())
