"""NAT detection (RFC 7296 §2.23): what both sides' hashes say, and what follows for ESP."""

from ipaddress import ip_address

import pytest

from ipsec_dp.ike.actions import Endpoint, Path
from ipsec_dp.ike.nat import Nat, Said, detect, detection_hash, said_of, source_end

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


def forced(end):
    return source_end(end, Said.FORCED)


@pytest.mark.parametrize(
    ("sources", "destination", "sides", "forced_there"),
    [
        ([forced(PATH.remote)], PATH.local, "none", True),
        ([forced(PATH.remote)], forced(PATH.local), "none", True),  # as Libreswan says both
        ([forced(BEFORE_NAT)], PATH.local, "remote", False),
        ([forced(PATH.remote)], BEFORE_NAT, "local", True),
        ([forced(PATH.remote), PATH.remote], PATH.local, "none", False),
    ],
)
def test_what_cannot_be_is_no_nat_where_the_address_holds(sources, destination, sides, forced_there):
    nat = found(sources, destination)
    assert (nat.sides, nat.forced_there, nat.udp) == (sides, forced_there, sides != "none" or forced_there)


def test_a_port_that_a_nat_gave_shows_it_all_the_same():
    path = Path(PATH.local, OTHER_PORT)
    nat = detect(*SPIS, path, [detection_hash(*SPIS, forced(PATH.remote))], detection_hash(*SPIS, PATH.local))
    assert nat.sides == "remote"


@pytest.mark.parametrize(
    ("encapsulations", "said"),
    [
        (["auto"], Said.FORCED),
        (["udp", "auto"], Said.FORCED),
        (["esp"], Said.NOTHING),
        (["esp", "udp"], Said.TRUTH),
        (["esp", "auto", "esp"], Said.TRUTH),
    ],
)
def test_what_is_said_of_our_address(encapsulations, said):
    assert said_of(encapsulations) is said


@pytest.mark.parametrize(
    ("nat", "udp"),
    [
        (Nat(supported=True), False),
        (Nat(supported=True, forced_here=True), True),
        (Nat(supported=True, forced_there=True), True),
        (Nat(supported=True, local=True), True),
        (Nat(supported=True, remote=True), True),
        (Nat(remote=True), False),  # one side says nothing of its address
        (Nat(forced_here=True), False),  # the peer would not know what it is
    ],
)
def test_when_esp_goes_in_udp(nat, udp):
    assert nat.udp is udp
