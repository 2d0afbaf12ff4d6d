"""What tests of IKEv1 with strongSwan share: who renews, who ends it, certificates of both."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ipsec_dp.rig import netns
from tests.ike.pki import CA, OpenSsl
from tests.interop.strongswan_meeting import IDENTITIES, TUNNEL, Certificates, Meeting, is_answered

if TYPE_CHECKING:
    from pathlib import Path

AGREED: dict[str, Any] = {"version": 1, "ike": "aes256-sha256-ecp256", "esp": "aes128gcm16"}
DEAD_SECONDS = 20.0  # until a peer that does not answer is dead
DIES = 'liveness = { interval = "1s", retries = 1, action = "restart" }'
THEY_SEE = "dpd_delay = 1s\n dpd_timeout = 3s"  # of their connection
THEY_CALL = "rekey_time = 1h\n dpd_action = restart"  # of their child


def end(meeting: Meeting, role: str) -> None:
    """One side deletes the ISAKMP SA; then neither has any."""
    if role == "we":
        meeting.ours.ask("terminate", name=TUNNEL)
    else:
        meeting.theirs.terminate(ike="gw")
    meeting.eventually(meeting.down, f"nothing is left after {role} delete the ISAKMP SA")


def renew(meeting: Meeting, role: str, *, ike: bool) -> None:
    """One side asks; it returns at once."""
    if role == "we":
        meeting.ours.ask("rekey", name=TUNNEL, ike=ike)
    else:
        meeting.theirs.rekey(**({"ike": "gw"} if ike else {"child": "net"}))


def sends_by_another(meeting: Meeting, before: set[tuple[int, int]]) -> bool:
    """Whether packets of ours take a pair of SAs that was not there, and the peer has it too."""
    now = meeting.spis()
    return bool(now) and not now & before and now <= meeting.their_spis()


def renew_phase_2(meeting: Meeting, role: str) -> None:
    """One side asks, and both send by the new pair; phase 1 is as it was."""
    spis, ike = meeting.spis(), meeting.ike_spis()
    renew(meeting, role, ike=False)
    meeting.eventually(partial(sends_by_another, meeting, spis), f"a new pair of IPsec SAs, asked for by {role}")
    assert meeting.ike_spis() == ike


def settle(meeting: Meeting) -> None:
    """The peer seals by the new pair. Its userspace ESP takes the old outbound SA away before the new one is there: what is to be
    sealed meanwhile is lost in it."""
    meeting.eventually(lambda: is_answered(meeting.sites.host_b, netns.HOST_A[0]), "the peer seals by the new pair")


def renew_phase_1(meeting: Meeting, role: str) -> None:
    """One side asks, and there is another ISAKMP SA; phase 2 is as it was."""
    spis, ike = meeting.spis(), meeting.ike_spis()
    renew(meeting, role, ike=True)
    meeting.eventually(partial(meeting.has_another_ike_sa, ike), f"a new ISAKMP SA, asked for by {role}")
    assert meeting.spis() == spis


class Pki:
    """An authority and a certificate of both gateways with RSA keys, and the same with ECDSA keys."""

    def __init__(self, directory: Path) -> None:
        self.openssl = OpenSsl(directory)
        for kind in ("rsa", "ec"):
            self.openssl.certificate(f"ca-{kind}", f"/CN=authority {kind}", extensions=CA, kind=kind)
            for identity in IDENTITIES:
                self.openssl.certificate(
                    f"{identity}-{kind}", f"/CN={identity}", f"ca-{kind}", f"subjectAltName=DNS:{identity}", kind
                )

    def auth(self, kind: str) -> Certificates:
        """Both sign with keys of that kind."""
        names = (f"{IDENTITIES[0]}-{kind}", f"{IDENTITIES[1]}-{kind}")
        return Certificates(self.openssl.directory, f"ca-{kind}", names, "pubkey")
