"""NAT detection (RFC 7296 §2.23): what both sides' hashes say, and what follows for ESP."""

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.nat import Nat, detect, detection_hash

SPIS = (bytes(range(8)), bytes(range(8, 16)))
PATH = Path(Endpoint(ip_address("192.0.2.1"), 500), Endpoint(ip_address("198.51.100.9"), 500))
BEFORE_NAT = Endpoint(ip_address("10.0.0.7"), 500)
OTHER_PORT = PATH.remote._replace(port=1024)


def found(sources, destination):
    hashes = [detection_hash(*SPIS, end) for end in sources]
    return detect(*SPIS, PATH, hashes, None if destination is None else detection_hash(*SPIS, destination))


@pytest.mark.parametrize(
    ("sources", "destination", "sides"),
    [
        ([PATH.remote], PATH.local, "none"),
        ([BEFORE_NAT], PATH.local, "remote"),
        ([OTHER_PORT], PATH.local, "remote"),
        ([PATH.remote], BEFORE_NAT, "local"),
        ([BEFORE_NAT], BEFORE_NAT, "both"),
        ([BEFORE_NAT, PATH.remote], PATH.local, "none"),  # a peer of several addresses sends one hash for each
    ],
)
def test_where_a_nat_is(sources, destination, sides):
    nat = found(sources, destination)
    assert (nat.supported, nat.sides) == (True, sides)


@pytest.mark.parametrize(("sources", "destination"), [([], PATH.local), ([BEFORE_NAT], None), ([], None)])
def test_a_peer_that_does_not_send_both_detects_none(sources, destination):
    assert found(sources, destination) == Nat()


@pytest.mark.parametrize(
    ("nat", "encapsulation", "udp"),
    [
        (Nat(supported=True), "auto", False),
        (Nat(supported=True), "udp", True),
        (Nat(supported=True, local=True), "auto", True),
        (Nat(supported=True, remote=True), "auto", True),
        (Nat(supported=True, remote=True), "esp", False),
        (Nat(), "udp", False),  # the peer would not know what it is
    ],
)
def test_when_esp_goes_in_udp(nat, encapsulation, udp):
    assert nat.uses_udp(encapsulation) is udp
