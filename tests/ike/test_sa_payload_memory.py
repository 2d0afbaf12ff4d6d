"""SA payloads are remembered as they were read, and ours as they are written: as many as peers have, and no more."""

from ipsec_dp.ike.octets import Reader, Writer
from ipsec_dp.ike.proposal import Proposal, ProtocolId, parse_ike
from ipsec_dp.ike.v2 import sa_payload
from ipsec_dp.ike.v2.sa_payload import build_proposals, parse_proposals
from ipsec_dp.ipsec.transforms import Transform

OFFER = parse_ike(["aes256gcm16-prfsha384-x25519-ke1_mlkem768", "aes128gcm16-prfsha256-ecp256"])


def body(*proposals: Proposal) -> bytes:
    writer = Writer()
    build_proposals(writer, proposals)
    return writer.take()


def test_the_same_octets_are_read_once():
    octets = body(*OFFER)
    assert parse_proposals(Reader(octets)) is parse_proposals(Reader(bytes(octets)))
    assert parse_proposals(Reader(octets)) == OFFER


def test_what_is_remembered_is_bounded():
    """Whoever sends others each time, or long ones, has them read as ever."""
    for number in range(2 * sa_payload.REMEMBERED):
        parse_proposals(Reader(body(Proposal(1, ProtocolId.IKE, b"", (Transform(1, number),)))))
    full = sa_payload.remembered.cache_info().currsize
    long = body(Proposal(1, ProtocolId.IKE, b"", tuple(Transform(1, number) for number in range(200))))
    assert len(long) > sa_payload.REMEMBERED_OCTETS
    assert parse_proposals(Reader(long)) is not parse_proposals(Reader(long))
    assert sa_payload.remembered.cache_info().currsize == full == sa_payload.REMEMBERED


def test_transforms_of_the_same_algorithm_are_written_as_they_are():
    """The last of a proposal, one among others, one with another key length, and one with further attributes."""
    transforms = (Transform(1, 20, 128), Transform(1, 20, 256), Transform(1, 20), Transform(1, 20, 128, ((0x8007, b"\0\1"),)))
    for first in transforms:
        for last in transforms:
            (read,) = parse_proposals(Reader(body(Proposal(1, ProtocolId.IKE, b"", (first, last)))))
            assert read.transforms == (first, last)
