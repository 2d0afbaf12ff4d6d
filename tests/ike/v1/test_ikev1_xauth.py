"""A peer that insists on XAUTH or mode config gets a clean refusal, and a person the sentence that says what it wants."""

import pytest

from ipsec_dp.ike.actions import Cause, Kind
from ipsec_dp.ike.v1 import offers, transaction
from ipsec_dp.ike.v1 import payloads as p
from ipsec_dp.ike.v1.wire import ExchangeMode, NotifyCode

from .gateways import Gateways, texts
from .isakmp_peer import sealed
from .test_ikev1_threats import give, session

ASKS_XAUTH = p.ConfigPayload(bytes.fromhex("01 00 0007  c088 0000  4089 0000  408a 0000"))  # type, user name, password
ASKS_ADDRESS = p.ConfigPayload(bytes.fromhex("01 00 0007  0001 0000  0003 0000"))


def before_phase_2(site):
    """Phase 1 is up, and nothing of phase 2 has left."""
    gateways = Gateways()
    gateways.initiate("a")
    for _ in range(3):
        gateways.deliver("b")
        gateways.deliver("a")
    gateways.wire.cut("a", "b")
    gateways.wire.cut("b", "a")
    while gateways.wire.take("b") is not None:
        pass
    assert not gateways.sites[site].sad.inbound
    return gateways


@pytest.fixture
def refusals(monkeypatch):
    """The notifications that leave in informational exchanges, and what is deleted."""
    from ipsec_dp.ike.v1.context import IsakmpContext

    said: list[object] = []
    send = IsakmpContext.send_informational

    def noting(self, payloads):
        chain = list(payloads)
        said.extend(one.code if isinstance(one, p.NotificationPayload) else "DELETE" for one in chain)
        send(self, chain)

    monkeypatch.setattr(IsakmpContext, "send_informational", noting)
    return said


@pytest.mark.parametrize("site", ["a", "b"])
def test_xauth_after_phase_1_ends_it_with_a_sentence(site, refusals):
    gateways = before_phase_2(site)
    give(gateways, site, sealed(session(gateways, site), [ASKS_XAUTH], ExchangeMode.TRANSACTION))
    who = gateways.sites[site]
    assert refusals == [NotifyCode.UNSUPPORTED_EXCHANGE_TYPE, "DELETE"]
    (down,) = (event for event in who.events if event.kind is Kind.IKE_DOWN)
    assert (down.cause, down.text, down.again) == (Cause.AUTHENTICATION, offers.WANTS_XAUTH, True)
    assert who.core.counters().sessions == 0


@pytest.mark.parametrize("site", ["a", "b"])
def test_mode_config_is_refused_and_the_rest_goes_on(site, refusals):
    gateways = Gateways().start()
    for number in range(1, 8):
        give(gateways, site, sealed(session(gateways, site), [ASKS_ADDRESS], ExchangeMode.TRANSACTION, number))
    assert refusals == [NotifyCode.UNSUPPORTED_EXCHANGE_TYPE] * 7
    assert texts(gateways.sites[site], Kind.HINT) == [transaction.WANTS_CONFIG], "once"
    gateways.settle()
    gateways.check()


def test_where_it_works_without_xauth_it_goes_on(refusals):
    gateways = Gateways().start()
    give(gateways, "b", sealed(session(gateways, "b"), [ASKS_XAUTH], ExchangeMode.TRANSACTION))
    assert refusals == [NotifyCode.UNSUPPORTED_EXCHANGE_TYPE]
    assert texts(gateways.b, Kind.HINT) == [offers.WANTS_XAUTH]
    gateways.settle()
    gateways.check()


@pytest.mark.parametrize("site", ["a", "b"])
def test_nobody_else_may_ask(site, refusals):
    """By its cookies alone: no answer, no word of it."""
    gateways = before_phase_2(site)
    context = session(gateways, site)
    give(gateways, site, sealed(context, [ASKS_XAUTH], ExchangeMode.TRANSACTION, hashed=b"other"))
    datagram = sealed(context, [ASKS_XAUTH], ExchangeMode.TRANSACTION, 78)
    give(gateways, site, datagram[:19] + b"\0" + datagram[20:])
    assert refusals == []
    assert gateways.faults()[site] == {"unauthenticated": 2}
    assert not {Kind.HINT, Kind.IKE_DOWN} & set(gateways.sites[site].kinds())


def test_a_recorded_one_is_not_answered_again(refusals):
    gateways = Gateways().start()
    datagram = sealed(session(gateways, "b"), [ASKS_ADDRESS], ExchangeMode.TRANSACTION)
    give(gateways, "b", datagram)
    give(gateways, "b", datagram)
    assert len(refusals) == 1
    assert gateways.faults()["b"] == {"out_of_window": 1}


@pytest.mark.parametrize("data", ["", "01", "01000007 4089", "01000007 40890005 6161"])
def test_what_cannot_be_read_is_refused_all_the_same_or_counted(data, refusals):
    gateways = Gateways().start()
    give(gateways, "b", sealed(session(gateways, "b"), [p.ConfigPayload(bytes.fromhex(data))], ExchangeMode.TRANSACTION))
    assert refusals == [NotifyCode.UNSUPPORTED_EXCHANGE_TYPE]
    gateways.settle()
    gateways.check()
