"""What strangers may cost: cookies for what they were made for, and half-open IKE SAs up to the limits."""

from ipaddress import ip_address
from random import Random

import pytest

from ipsec_dp.ike import cookies
from ipsec_dp.ike.actions import Endpoint
from ipsec_dp.ike.cookies import Cookies, HalfOpenSas

ONE, OTHER = (ip_address(f"192.0.2.{number}") for number in (1, 2))
END = Endpoint(ONE, 500)
NONCE, SPI = b"n" * 32, b"i" * 8


@pytest.fixture
def made():
    return Cookies(Random(1).randbytes)


def test_a_cookie_is_good_from_any_port_of_its_address(made):
    cookie = made.make(NONCE, SPI, END, 0.0)
    assert made.good(cookie, NONCE, SPI, END, 0.0)
    assert made.good(cookie, NONCE, SPI, Endpoint(ONE, 4500), 0.0)


@pytest.mark.parametrize(
    ("nonce", "spi", "address"), [(b"m" * 32, SPI, ONE), (NONCE, b"j" * 8, ONE), (NONCE, SPI, OTHER), (NONCE[:-1], b"n" + SPI, ONE)]
)
def test_and_for_nothing_else(made, nonce, spi, address):
    cookie = made.make(NONCE, SPI, END, 0.0)
    assert not made.good(cookie, nonce, spi, Endpoint(address, 500), 0.0)
    assert not made.good(cookie[:-1], NONCE, SPI, END, 0.0)
    assert not made.good(b"", NONCE, SPI, END, 0.0)


def test_it_outlives_one_secret_and_not_two(made):
    cookie = made.make(NONCE, SPI, END, 0.0)
    made.make(NONCE, SPI, END, cookies.SECRET_LIFE)
    assert made.good(cookie, NONCE, SPI, END, cookies.SECRET_LIFE)
    made.make(NONCE, SPI, END, 2 * cookies.SECRET_LIFE)
    assert not made.good(cookie, NONCE, SPI, END, 2 * cookies.SECRET_LIFE)


def test_while_nobody_asks_for_one_it_grows_old_too(made):
    """A host that was asleep takes no cookie from before."""
    cookie = made.make(NONCE, SPI, END, 0.0)
    assert made.good(cookie, NONCE, SPI, END, 2 * cookies.SECRET_LIFE - 0.1), "the control: it is good for two lives"
    cookie = made.make(NONCE, SPI, END, 1000.0)
    assert not made.good(cookie, NONCE, SPI, END, 1000.0 + 2 * cookies.SECRET_LIFE)


def test_limits_of_one_address_and_of_all():
    half_open: HalfOpenSas[int] = HalfOpenSas()
    for number in range(cookies.COOKIE_ABOVE_ADDRESS):
        assert not half_open.needs_cookie(ONE)
        half_open.add(number, ONE)
    assert (half_open.needs_cookie(ONE), half_open.needs_cookie(OTHER)) == (True, False)
    for number in range(len(half_open), cookies.MAX_ADDRESS):
        half_open.add(number, ONE)
    assert (half_open.full(ONE), half_open.full(OTHER), half_open.needs_cookie(OTHER)) == (True, False, True)
    for number in range(len(half_open), cookies.MAX_HALF_OPEN):
        half_open.add(number, ip_address(f"10.0.{number >> 8}.{number & 255}"))
    assert half_open.full(OTHER)


def test_what_is_authenticated_or_gone_counts_no_more():
    half_open: HalfOpenSas[str] = HalfOpenSas()
    half_open.add("sa", ONE)
    assert (list(half_open), len(half_open)) == (["sa"], 1)
    half_open.discard("sa")
    half_open.discard("sa")
    assert not half_open
    assert not half_open.needs_cookie(ONE)
