"""What a gateway takes from its environment."""

from __future__ import annotations

import pytest

from ipsec_dp.dataplane import Provider
from ipsec_dp.gateway.composition import GatewayFailedError, wanted_provider


@pytest.mark.parametrize(
    ("environment", "provider"),
    [
        ({}, Provider.AUTO),
        ({"IPSEC_DP_PROVIDER": ""}, Provider.AUTO),
        ({"IPSEC_DP_PROVIDER": "auto"}, Provider.AUTO),
        ({"IPSEC_DP_PROVIDER": "openssl"}, Provider.OPENSSL),
        ({"IPSEC_DP_PROVIDER": "intel-ipsec-mb"}, Provider.IPSEC_MB),
    ],
)
def test_the_environment_may_force_a_provider(environment, provider):
    assert wanted_provider(environment) is provider


def test_an_unknown_provider_is_refused_and_the_known_ones_are_named():
    with pytest.raises(
        GatewayFailedError, match="IPSEC_DP_PROVIDER=qat: no such provider; write one of auto, openssl, intel-ipsec-mb"
    ):
        wanted_provider({"IPSEC_DP_PROVIDER": "qat"})
