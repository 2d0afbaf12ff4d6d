"""The topology that the tests of one module share, and meetings with strongSwan in it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from ipsec_dp.rig import netns
from tests.interop.ikev1_meeting import AGREED
from tests.interop.strongswan_meeting import Agreement, Meeting
from tests.interop.strongswan_versions import usr_of
from tests.netns.succession import Succession


@pytest.fixture(scope="module")
def sites():
    with netns.Lab() as lab:
        yield netns.two_sites(lab)


@pytest.fixture
def meet(sites, tmp_path):
    """Makes meetings that end with the test: meet(ike="aes256gcm16-prfsha384-ecp384")."""
    with ExitStack() as stack:

        def made(**agreed: Any) -> Meeting:
            return stack.enter_context(Meeting(sites, tmp_path, Agreement(**agreed)))

        yield made


@pytest.fixture
def meet1(meet):
    """Makes meetings by IKEv1."""

    def made(**agreed: Any) -> Meeting:
        return meet(**(AGREED | agreed))

    return made


@pytest.fixture
def met(sites, tmp_path):
    """Makes meetings without an SA with a version of strongSwan, of which ours is to go on in other processes: met(OWN)."""
    with ExitStack() as stack:

        def met(version: str, **agreed: Any) -> tuple[Meeting, Succession]:
            meeting = Meeting(sites, tmp_path, Agreement(usr=usr_of(version), **agreed))
            succession = Succession(meeting.ours)
            stack.enter_context(meeting)
            return meeting, stack.enter_context(succession)

        yield met
