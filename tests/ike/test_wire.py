"""The cursors: nothing is read past the end, nothing is written that does not fit."""

import pytest

from ipsec_dp.ike.certificates import CertificateError
from ipsec_dp.ike.dh import KeyExchangeError
from ipsec_dp.ike.errors import IkeSyntaxError
from ipsec_dp.ike.octets import Reader, Writer
from ipsec_dp.ike.proposal import ProposalError
from ipsec_dp.ike.v2.errors import UnsupportedCriticalPayloadError, notify_of
from ipsec_dp.ike.v2.payloads import Notify
from ipsec_dp.ike.v2.wire import CRITICAL, NotifyType


def test_reader_walks_numbers_and_octets():
    reader = Reader(b"\x01\x02\x03\x04\x05\x06\x07abc")
    assert (reader.u8(), reader.u16(), reader.u32()) == (1, 0x0203, 0x04050607)
    assert (reader.position, reader.remaining, reader.octets(2), reader.rest()) == (7, 3, b"ab", b"c")
    reader.end("test")


@pytest.mark.parametrize(
    "read", [Reader.u8, Reader.u16, Reader.u32, lambda r: r.octets(1), lambda r: r.octets(-1), lambda r: r.sub(9)]
)
def test_reading_past_the_end_or_backwards_is_a_syntax_error(read):
    with pytest.raises(IkeSyntaxError):
        read(Reader(b""))


def test_a_sub_reader_cannot_leave_its_octets():
    outer = Reader(b"\x01\x02\x03")
    inner = outer.sub(2)
    assert (inner.u16(), outer.u8()) == (0x0102, 3)
    with pytest.raises(IkeSyntaxError):
        inner.u8()


def test_left_over_octets_are_refused():
    with pytest.raises(IkeSyntaxError, match="1 octets too many"):
        Reader(b"x").end("thing")


def test_writer_fills_lengths_and_refuses_what_does_not_fit():
    writer = Writer()
    at = writer.reserve_u16()
    writer.u32(7)
    writer.fill_u16(at, len(writer))
    assert writer.take() == b"\0\x06\0\0\0\x07"
    for write, value in ((writer.u8, 256), (writer.u16, -1), (writer.u32, 1 << 32)):
        with pytest.raises(ValueError, match="does not fit"):
            write(value)
    with pytest.raises(ValueError, match="does not fit"):
        writer.fill_u16(at, 65_536)


def test_the_critical_bit_is_the_highest_of_its_octet():
    assert CRITICAL == 0x80  # "bit 0" in the RFC's drawing


def test_errors_name_the_notify_that_answers_them():
    assert notify_of(UnsupportedCriticalPayloadError(200)) == Notify(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xc8")
    assert notify_of(IkeSyntaxError("x")) == Notify(NotifyType.INVALID_SYNTAX)
    assert notify_of(KeyExchangeError("x")) == Notify(NotifyType.INVALID_SYNTAX)
    assert notify_of(ProposalError("x")) == Notify(NotifyType.NO_PROPOSAL_CHOSEN)
    assert notify_of(CertificateError("x")) == Notify(NotifyType.AUTHENTICATION_FAILED)
