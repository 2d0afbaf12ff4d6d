"""Without a rig a gateway is made of its own parts."""

import gc

from ipsec_dp.dataplane import DataPlane
from ipsec_dp.gateway.substitutes import NO_SUBSTITUTES
from ipsec_dp.services.metrics_server import listen_here


def test_nothing_is_substituted():
    assert NO_SUBSTITUTES.plane is DataPlane
    assert NO_SUBSTITUTES.listen is listen_here
    payloads: list[object] = [object()]
    assert NO_SUBSTITUTES.shaped(None, payloads) is payloads


def test_what_the_configuration_is_made_of_is_not_looked_through_again():
    before = gc.get_freeze_count()
    try:
        with NO_SUBSTITUTES.starting():
            pass
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
