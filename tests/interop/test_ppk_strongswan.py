"""Post-quantum preshared keys by RFC 8784 with strongSwan, in both roles. It has no RFC 9867, which we offer besides.

hostA -- gwA (ours) == gwB (charon) -- hostB
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ipsec_dp.rig.peers import PeerError
from tests.interop.strongswan_meeting import ROLES, TUNNEL, Psk
from tests.interop.strongswan_versions import VERSIONS, usr_of
from tests.interop.test_ike_strongswan_rekey import rekey_child, rekey_ike

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

REKEYS = dict(zip(VERSIONS, ROLES, strict=True))
GOOD, WRONG = "0x" + "5a" * 32, "0x" + "a5" * 32
NAMED, REQUIRED = "ppk_id = one", "ppk_id = one\n ppk_required = yes"


@dataclass(frozen=True)
class WithPpk(Psk):
    """A PPK of each side besides the secret; None: it has none."""

    our_ppk: str | None = GOOD
    their_ppk: str | None = GOOD
    use: str = "required"

    def our_lines(self, directory: Path) -> str:
        if self.our_ppk is None:
            return super().our_lines(directory)
        path = directory / "one.ppk"
        path.touch(mode=0o600)
        path.write_text(self.our_ppk)
        return f'{super().our_lines(directory)}\nppk_id = "one"\nppk_file = "one.ppk"\nppk = "{self.use}"'

    def their_secrets(self) -> str:
        ppk = "" if self.their_ppk is None else f"ppk-one {{ id = one\n secret = {self.their_ppk} }}"
        return f'secrets {{ ike-b {{ secret = "{self.theirs}" }}\n {ppk} }}'


def protected(meeting):
    tunnel = meeting.tunnel()
    return tunnel["ike"]["post_quantum"], tunnel["children"][0]["post_quantum"]


def end(meeting):
    """Neither has an SA; a call of ours that came to nothing goes on there for a while."""
    meeting.ours.ask("terminate", name=TUNNEL)
    gone = lambda: not meeting.children() and all(sa["state"] == "CONNECTING" for _, sa in meeting.theirs.list_sas())  # noqa: E731
    meeting.eventually(gone, "neither has an SA")


def fails(meeting, said):
    """No SA comes of a call by either side, and our log says why; of theirs no more than once in ten seconds."""
    before = meeting.ours.text().count(said)
    meeting.ours.ask("initiate", name=TUNNEL)
    meeting.eventually(lambda: meeting.ours.text().count(said) > before, said)
    meeting.ours.ask("terminate", name=TUNNEL)
    with pytest.raises(PeerError):
        meeting.theirs.initiate("net")
    assert not meeting.children()
    assert not meeting.their_spis()


@pytest.mark.parametrize("version", VERSIONS)
def test_ppk(meet, version):
    meeting = meet(auth=WithPpk(), their_connection=REQUIRED, usr=usr_of(version), start="on-demand")
    both, none = {"ike": "none", "child": "ppk"}, {"ike": "none", "child": "none"}
    for role in ROLES:
        meeting.bring_up(role)
        assert protected(meeting) == (both, both)
        meeting.assert_carries()
        if role == REKEYS[version]:
            rekey_child(meeting, role)
            assert protected(meeting) == (both, both)
            rekey_ike(meeting, role)
            assert protected(meeting) == ({"ike": "inherited", "child": "inherited"}, {"ike": "inherited", "child": "ppk"})
            meeting.assert_carries()
        end(meeting)

    meeting.agree(auth=WithPpk(their_ppk=WRONG))
    fails(meeting, "the PPK one is another one there")

    meeting.agree(auth=WithPpk(their_ppk=None), their_connection="")
    fails(meeting, "does not answer USE_PPK")

    meeting.agree(auth=WithPpk(their_ppk=None, use="if-offered"), their_connection="")
    for role in ROLES:
        meeting.bring_up(role)
        assert protected(meeting) == (none, none)
        end(meeting)

    meeting.agree(auth=WithPpk(our_ppk=None), their_connection=NAMED)
    for role in ROLES:
        meeting.bring_up(role)
        assert protected(meeting) == (none, none)
        end(meeting)

    meeting.agree(auth=WithPpk(use="if-offered"), their_connection=NAMED)
    for role in ROLES:
        meeting.bring_up(role)
        assert protected(meeting) == (both, both)
        end(meeting)
