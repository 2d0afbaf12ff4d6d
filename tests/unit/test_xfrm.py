"""Policies of the kernel's own IPsec, from octets as rtnetlink's sibling sends them (struct xfrm_userpolicy_info, 168 octets)."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_network

import pytest

from ipsec_dp.host import HostError
from ipsec_dp.host.xfrm import XfrmPolicy, policies, xfrm_policy_of

# `ip xfrm policy add src 10.1.0.0/24 dst 10.2.0.0/24 dir out priority 1000 tmpl …`, on x86-64.
OUT = bytes.fromhex(
    "0a020000000000000000000000000000"  # destination
    "0a010000000000000000000000000000"  # source
    "0000000000000000"  # ports and masks
    "0200181800000000"  # AF_INET, /24, /24, any protocol
    "0000000000000000"  # interface, user
    + "ff" * 32
    + "00" * 64  # lifetimes
    + "e8030000"  # priority
    "09000000"  # index
    "0100000000000000"  # out, allow, no flags, share, padding
)


def changed(at, octets):
    return OUT[:at] + octets + OUT[at + len(octets) :]


def test_a_policy_is_read():
    assert len(OUT) == 168
    assert xfrm_policy_of(OUT, 0, len(OUT)) == XfrmPolicy("out", ip_network("10.1.0.0/24"), ip_network("10.2.0.0/24"), False)
    assert str(xfrm_policy_of(changed(160, b"\x02\x01"), 0, 168)) == "fwd 10.1.0.0/24 to 10.2.0.0/24 (block)"


def test_ipv6():
    whole = changed(40, b"\x0a\x00\x40\x30")
    assert str(xfrm_policy_of(whole, 0, 168)) == "out a01::/48 to a02::/64"


@pytest.mark.parametrize(
    "octets",
    [changed(160, b"\x04"), changed(156, b"\x0c"), changed(40, b"\x1c\x00"), OUT[:-1]],
    ids=["another direction", "of one socket", "another family", "cut short"],
)
def test_what_is_of_no_concern_is_none(octets):
    assert xfrm_policy_of(octets, 0, len(octets)) is None


MULTIPART, FIRST = b"\x02\x00", b"\x01\x00\x00\x00"  # flags, and the sequence number of the first request


def message(kind, body):
    return (16 + len(body)).to_bytes(4, "little") + kind.to_bytes(2, "little") + MULTIPART + FIRST + bytes(4) + body


class Answers:
    """A netlink socket with these datagrams to read, or one that cannot be made."""

    def __init__(self, *data, refused=0):
        self.data, self.refused = list(data), refused

    def __call__(self, *_):
        if self.refused:
            raise OSError(self.refused, "refused")
        return self

    def bind(self, _):
        return

    def close(self):
        return

    def settimeout(self, _):
        return

    def send(self, request):
        assert len(request) == 16 + 64

    def recv(self, _):
        return self.data.pop(0)


DONE = message(3, bytes(4))


def test_all_are_listed(monkeypatch):
    monkeypatch.setattr(socket, "socket", Answers(message(0x13, OUT) + message(0x13, changed(160, b"\x00")), DONE))
    assert [each.direction for each in policies()] == ["out", "in"]


@pytest.mark.parametrize("code", [errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT])
def test_a_kernel_without_them_has_none(monkeypatch, code):
    monkeypatch.setattr(socket, "socket", Answers(refused=code))
    assert policies() == []


def test_a_refusal_is_an_error(monkeypatch):
    refusal = message(2, (-errno.EPERM).to_bytes(4, "little", signed=True))
    monkeypatch.setattr(socket, "socket", Answers(refusal))
    with pytest.raises(HostError, match="Operation not permitted"):
        policies()
    monkeypatch.setattr(socket, "socket", Answers(refused=errno.EPERM))
    with pytest.raises(HostError, match="policies of the kernel's IPsec: Operation not permitted"):
        policies()
