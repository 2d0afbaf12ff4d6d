"""What two programs say to each other at a hand-over stays as it was released: another model has another number, and is refused."""

from __future__ import annotations

import json

import msgspec
import pytest

from ipsec_dp.gateway.upgrade.messages import MESSAGES, MODEL, GatewayOffer, MessageKind, body_of, message_of
from ipsec_dp.gateway.upgrade.stream import HandOverError
from tests.unit import upgrade_models
from tests.unit.upgrade_models import EXAMPLES, samples

OFFER = samples()["OFFER"]
FIRST = 2  # no version was released with 1


def example(number):
    return json.loads(EXAMPLES[number].read_text())


def octets(number, kind):
    return bytes.fromhex(example(number)["messages"][kind.name])


def test_every_model_has_its_example():
    assert sorted(EXAMPLES) == list(range(FIRST, MODEL + 1))


def test_the_messages_are_those_of_their_model():
    """Changed on purpose? Where a version was released with this number: the next number, and beside it
    `python -m tests.unit.upgrade_models`, which otherwise writes this one anew."""
    kept = example(MODEL)
    now = json.loads(upgrade_models.now())
    assert now["shape"] == kept["shape"]
    assert now["messages"] == kept["messages"]


@pytest.mark.parametrize("kind", MessageKind, ids=lambda kind: kind.name)
def test_an_example_is_read_whole(kind):
    found = message_of(kind, octets(MODEL, kind), MESSAGES[kind])
    assert found == samples()[kind.name]
    assert bytes(body_of(found)) == octets(MODEL, kind)


def test_an_offer_of_a_former_model_is_refused_by_its_number():
    for number in EXAMPLES.keys() - {MODEL}:
        with pytest.raises(HandOverError, match=f"speaks model {number} of the hand-over, and this one model {MODEL}: restart"):
            message_of(MessageKind.OFFER, octets(number, MessageKind.OFFER), GatewayOffer)


class Other(msgspec.Struct):
    """An offer of a model that nobody here knows."""

    model: int
    something: str = "else"


@pytest.mark.parametrize("number", [MODEL - 1, MODEL + 1])
@pytest.mark.parametrize("what", ["the same fields", "others"])
def test_an_offer_of_another_model_is_refused_by_its_number_whatever_it_consists_of(number, what):
    other = Other(number) if what == "others" else msgspec.structs.replace(OFFER, model=number)
    with pytest.raises(HandOverError, match=f"speaks model {number} of the hand-over, and this one model {MODEL}: restart"):
        message_of(MessageKind.OFFER, body_of(other), GatewayOffer)


def test_an_offer_without_a_number_is_refused_too():
    with pytest.raises(HandOverError, match="speaks model 0"):
        message_of(MessageKind.OFFER, body_of(msgspec.defstruct("Nameless", [("something", str)])("else")), GatewayOffer)
