"""Every number that this project speaks has the name here that it has there, and no number stays a number where it has a name."""

from __future__ import annotations

import pytest

from ipsec_dp.ike.auth import AuthMethod
from ipsec_dp.ike.identity import IdType
from ipsec_dp.ike.proposal import ProtocolId
from ipsec_dp.ike.v2.wire import FIRST_STATUS_NOTIFY, ExchangeType, NotifyType, PayloadType
from ipsec_dp.ipsec import iana
from ipsec_dp.ipsec.transforms import ENCRYPTIONS, GROUPS, INTEGRITIES, PRFS, TransformType


@pytest.mark.parametrize("notify", NotifyType, ids=lambda notify: notify.name)
def test_a_notify_has_its_name(notify):
    assert iana.notify_text(notify) == notify.name
    assert (notify in iana.ERRORS) is (notify < FIRST_STATUS_NOTIFY)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (40, "UNACCEPTABLE_ADDRESSES"),
        (48, "TS_MAX_QUEUE"),
        (16404, "MULTIPLE_AUTH_SUPPORTED"),
        (16417, "EAP_ONLY_AUTHENTICATION"),
        (16441, "ADDITIONAL_KEY_EXCHANGE"),
        (16446, "PPK_IDENTITY_KEY"),
        (99, "notify 99 (error that has no name)"),
        (9001, "notify 9001 (error for private use)"),
        (16447, "notify 16447 (status that has no name)"),
        (40969, "notify 40969 (status for private use)"),
    ],
)
def test_what_is_not_spoken_here_is_read_out(number, text):
    assert iana.notify_text(number) == text


def test_exchanges_payloads_and_the_rest_are_those_of_the_code():
    assert {each.value: each.name for each in ExchangeType}.items() <= iana.EXCHANGES.items()
    assert {each.value for each in PayloadType} - {0} <= iana.PAYLOADS.keys()
    assert {each.value: each.name for each in IdType}.items() <= iana.IDENTITIES.items()
    assert {each.value for each in AuthMethod} <= iana.AUTHENTICATIONS.keys()
    assert {each.value: each.name for each in ProtocolId if each}.items() <= iana.PROTOCOLS.items()
    assert {each.value for each in TransformType} <= iana.TRANSFORMS.keys() <= iana.TRANSFORM_TYPES.keys()


@pytest.mark.parametrize(
    ("algorithms", "table"),
    [(ENCRYPTIONS, iana.ENCRYPTIONS), (PRFS, iana.PRFS), (INTEGRITIES, iana.INTEGRITIES), (GROUPS, iana.KEY_EXCHANGES)],
)
def test_an_algorithm_is_called_by_its_keyword(algorithms, table):
    for algorithm in algorithms:
        assert table[algorithm.id].format(getattr(algorithm, "key_length", None)) == algorithm.keyword
    assert {cipher.id for cipher in ENCRYPTIONS if cipher.is_aead} <= iana.AEAD
