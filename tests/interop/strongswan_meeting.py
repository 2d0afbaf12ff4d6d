"""Our gateway and a strongSwan, configured for each other, with what a test asks of both.

hostA -- gwA (ours) == gwB (charon) -- hostB

Its userspace ESP exists in UDP only and has no ESN, so our side has encapsulation = "udp" and proposes none. Neither side calls by
itself unless a test says so: `bring_up` says who does.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from ipsec_dp.rig import capture, netns
from ipsec_dp.rig.peers.strongswan import StrongSwan
from ipsec_dp.rig.process import GatewayProcess
from tests.netns.traffic import echoes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace, TwoSites

TUNNEL = "to-b"
IDENTITIES = ("gwA.example", "gwB.example")
ROLES = ("we", "they")  # who initiates
SECONDS = 20.0  # of what comes soon; a lost message is sent again by then
POLL_S = 0.02
PINGS = 3
# Reasons that a packet is dropped for although the peer sealed it for us: none may appear where nothing is wrong.
LOST = ("icv", "replay", "too_old", "unknown_spi", "no_sa", "selectors", "pad")


@dataclass(frozen=True)
class Psk:
    """A secret of each side; the same one where nothing is wrong."""

    ours: str = "a secret of thirty-two characters"
    theirs: str = "a secret of thirty-two characters"

    def our_lines(self, directory: Path) -> str:
        _secret(directory / "tunnel.psk", self.ours)
        return 'psk_file = "tunnel.psk"'

    their_local = their_remote = "auth = psk"

    def their_secrets(self) -> str:
        return f'secrets {{ ike-b {{ secret = "{self.theirs}" }} }}'

    def give(self, peer: StrongSwan) -> None:
        """Nothing of it is a file of the peer's."""


@dataclass(frozen=True)
class Certificates:
    """NAME.crt and NAME.key of `directory` for both sides. `method` is strongSwan's word for how it signs.

    `intermediates`: certificates between the peer's and the authority, sent by it; ours stand in the file of our certificate.
    """

    directory: Path
    authority: str
    names: tuple[str, str]
    method: str
    intermediates: tuple[str, ...] = ()

    def our_lines(self, directory: Path) -> str:
        del directory
        ours = self.directory / self.names[0]
        return f'certificate = "{ours}.crt"\nprivate_key = "{ours}.key"\nca = ["{self.directory / self.authority}.crt"]'

    @property
    def their_local(self) -> str:
        return f"auth = {self.method}\n certs = {self.names[1]}.crt"

    their_remote = "auth = pubkey"

    def their_secrets(self) -> str:
        return ""

    def give(self, peer: StrongSwan) -> None:
        for kind, name in (
            ("x509ca", f"{self.authority}.crt"),
            ("x509", f"{self.names[1]}.crt"),
            ("private", f"{self.names[1]}.key"),
            *(("x509", f"{name}.crt") for name in self.intermediates),
        ):
            (peer.credentials(kind) / name).write_bytes((self.directory / name).read_bytes())


@dataclass(frozen=True)
class Net:
    """One child of strongSwan's, from our side: what is ours and what is its own. Several prefixes have commas between them."""

    name: str = "net"
    ours: str = netns.SITE_A_NETS[0]
    theirs: str = netns.SITE_B_NETS[0]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What both sides are configured with. Proposals are in strongSwan's keywords; the peer's are ours unless given.

    `ike`, `esp` None: neither side says any, so that each has its defaults. `usr`: that of another strongSwan than Debian's.
    """

    auth: Psk | Certificates = field(default=Psk())
    ike: str | None = "aes128gcm16-prfsha256-x25519"
    esp: str | None = "aes128gcm16"
    their_ike: str | None = None
    their_esp: str | None = None
    proxy_ids: tuple[tuple[str, str], ...] = ((netns.SITE_A_NETS[0], netns.SITE_B_NETS[0]),)
    nets: tuple[Net, ...] = (Net(),)
    outer: tuple[str, str] = (netns.GW_A_OUTER[0], netns.GW_B_OUTER[0])
    their_outer: tuple[str, str] | None = None  # ours and its own as the peer has them, where a NAT is between
    forced: bool = True  # ESP in UDP, whether there is a NAT or not
    start: str = "respond"
    our_remote_id: str = IDENTITIES[1]
    unique: str = "replace"
    proxy_lines: tuple[str, ...] = ()  # further lines of each of our proxy IDs
    # Further lines of our tables and of the peer's sections.
    our_gateway: str = ""
    our_tunnel: str = ""
    our_ike: str = ""
    our_esp: str = ""
    strongswan_conf: str = ""
    their_connection: str = ""
    their_child: str = "rekey_time = 1h"
    usr: Path | None = None
    version: int = 2  # of IKE; 0: strongSwan's "both"
    our_version: str | None = None  # in our file; None: the same

    def ours(self, directory: Path) -> str:
        """Our configuration file."""
        proxy_ids = "".join(
            f'  [[tunnel.proxy_id]]\n  local = "{ours}"\n  remote = "{theirs}"\n  {further}\n'
            for (ours, theirs), further in zip(self.proxy_ids, self.proxy_lines or [""] * len(self.proxy_ids), strict=True)
        )
        return f"""\
[gateway]
name = "gwA"
{self.our_gateway}
[[tunnel]]
name = "{TUNNEL}"
local = "{self.outer[0]}"
remote = "{self.outer[1]}"
interface = "ipsec0"
encapsulation = "{"udp" if self.forced else "auto"}"
start = "{self.start}"
{self.our_tunnel}
{proxy_ids}
  [tunnel.auth]
local_id = "{IDENTITIES[0]}"
remote_id = "{self.our_remote_id}"
unique = "{self.unique}"
{self.auth.our_lines(directory)}
  [tunnel.ike]
version = "{self.our_version or self.version}"
{"" if self.ike is None else f'proposals = ["{self.ike}"]'}
{self.our_ike}
  [tunnel.esp]
{"" if self.esp is None else f'proposals = ["{self.esp}-noesn"]'}
replay_window = 128
{self.our_esp}
"""

    def theirs(self) -> str:
        """strongSwan's swanctl.conf."""
        children = "".join(
            f"{net.name} {{\n local_ts = {net.theirs}\n remote_ts = {net.ours}\n"
            f" esp_proposals = {self.their_esp or self.esp or 'default'}\n"
            f" replay_window = 128\n {self.their_child}\n}}\n"
            for net in self.nets
        )
        ours, theirs = self.their_outer or self.outer
        return f"""\
connections {{ gw {{
 version = {self.version}
 local_addrs = {theirs}
 remote_addrs = {ours}
 encap = {"yes" if self.forced else "no"}
 proposals = {self.their_ike or self.ike or "default"}
 {self.their_connection}
 local {{
  id = {IDENTITIES[1]}
  {self.auth.their_local}
 }}
 remote {{
  id = {IDENTITIES[0]}
  {self.auth.their_remote}
 }}
 children {{
 {children} }}
}} }}
{self.auth.their_secrets()}
"""


def _secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


class Meeting:
    """Both of an agreement, up when entered, with no SA yet unless one of them starts by itself."""

    def __init__(self, sites: TwoSites, directory: Path, agreement: Agreement) -> None:
        self.sites, self.agreement, self.directory = sites, agreement, directory
        config = directory / "gwA.toml"
        config.write_text(agreement.ours(directory))
        self.ours = GatewayProcess(sites.gw_a, config)
        self.theirs = StrongSwan(sites.gw_b, directory / "strongswan", agreement.theirs(), agreement.strongswan_conf, agreement.usr)
        agreement.auth.give(self.theirs)
        self.lost_early: dict[str, int] = {}  # what a Stream found lost that may begin before the SA is up on both sides
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._stop_ours)
            self.ours.start()
            stack.enter_context(self.theirs)
            self.ours.wait_up()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _stop_ours(self) -> None:
        if self.ours.process is not None and self.ours.process.poll() is None:
            self.ours.terminate()

    # ---- what they do

    def agree(self, **changes: Any) -> None:
        """Both take another configuration, ours by a reload; it stands until the next one."""
        self.agreement = replace(self.agreement, **changes)
        self.agreement.auth.give(self.theirs)
        self.ours.config.write_text(self.agreement.ours(self.directory))
        self.ours.ask("reload")
        self.theirs.load(self.agreement.theirs())

    def bring_up(self, role: str) -> None:
        """One IKE SA and the peer's nets' CHILD_SAs, up on both sides; `role` is who initiates."""
        if role == "we":
            self.ours.ask("initiate", name=TUNNEL)
        else:
            for net in self.agreement.nets:
                self.theirs.initiate(net.name)
        self.eventually(self.is_up, f"{role} initiate, and both are up")

    def is_up(self) -> bool:
        """Whether both have the same CHILD_SAs in the same single IKE SA.

        One that strongSwan calls rekeyed carries nothing: it made it in answer to a rekey of ours that lost, and waits for a DELETE
        which we cannot send when its answer never reached us (RFC 7296 §2.25.2); its own timer takes it away. The same holds for
        one that it has answered and we gave up, since it had called us meanwhile.
        """
        ours, theirs = self.tunnel(), [sa for _, sa in self.theirs.list_sas() if sa["state"] not in ("REKEYED", "CONNECTING")]
        if ours["state"] != "up" or len(theirs) != 1 or theirs[0]["state"] != "ESTABLISHED":
            return False
        ike = (theirs[0]["initiator-spi"], theirs[0]["responder-spi"])
        return (ours["ike"]["spi_i"], ours["ike"]["spi_r"]) == ike and bool(self.spis()) and self.spis() == self.their_spis()

    def down(self) -> bool:
        """Whether neither has an SA."""
        return self.tunnel()["ike"] is None and not self.children() and not self.theirs.list_sas()

    # ---- what they say

    def tunnel(self) -> dict[str, Any]:
        """Our status of the tunnel."""
        (tunnel,) = self.ours.status()["tunnels"]
        return dict(tunnel)

    def children(self) -> list[dict[str, Any]]:
        return list(self.tunnel()["children"])

    def ike_spis(self) -> tuple[str, str] | None:
        """Of the IKE SA that is up; None while there is none."""
        ike = self.tunnel()["ike"]
        return None if ike is None else (ike["spi_i"], ike["spi_r"])

    def has_another_ike_sa(self, before: tuple[str, str] | None) -> bool:
        """Whether an IKE SA is up, and it is not that one."""
        return self.ike_spis() not in (None, before)

    def spis(self) -> set[tuple[int, int]]:
        """(the SPI that we receive on, that the peer does) of every CHILD_SA by what we say, but for those that only receive."""
        return {(int(child["spi_in"], 16), int(child["spi_out"], 16)) for child in self.children() if child["spi_out"]}

    def their_spis(self) -> set[tuple[int, int]]:
        """The same by what the peer says."""
        return {(int(str(child["spi-out"]), 16), int(str(child["spi-in"]), 16)) for child in self.theirs.children()}

    def counter(self, name: str) -> int:
        """How many packets went in ("packets_in") or out ("packets_out") in ESP."""
        return int(self.ours.status()["traffic"][name])

    def lost(self) -> dict[str, int]:
        """What we dropped of the peer's packets, by reason."""
        drops = self.ours.status()["drops"]
        return {reason: drops[reason] for reason in LOST if drops[reason]}

    # ---- what a test demands

    def eventually(self, condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
        """Fails with both logs unless `condition` comes true in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}\n{self.both_logs()}"
            time.sleep(POLL_S)

    def both_logs(self) -> str:
        sas = [sa for _, sa in self.theirs.list_sas()] if self.theirs.daemon.running() else "not running"
        return f"--- ours\n{self.ours.text()}\n{self.tunnel()}\n--- strongSwan\n{self.theirs.text()}\n{sas}"

    def assert_carries(self, version: int = 4) -> None:
        """Packets go both ways, every one of them in ESP."""
        a, b = (hosts[version == 6] for hosts in (netns.HOST_A, netns.HOST_B))
        before = (self.counter("packets_in"), self.counter("packets_out"))
        for source, destination in ((self.sites.host_a, b), (self.sites.host_b, a)):
            assert echoes(source, destination, PINGS), f"{source.label} has no answer from {destination}\n{self.both_logs()}"
        carried = tuple(counter + 2 * PINGS for counter in before)
        # A packet is counted a moment after it was passed on, which a busy machine makes a long one.
        self.eventually(lambda: (self.counter("packets_in"), self.counter("packets_out")) == carried, "each packet counted as ESP")
        assert self.lost() == self.lost_early, self.both_logs()


def ping(source: Namespace, destination: str, count: int = PINGS, *options: str) -> bool:
    """Whether every one of `count` echo requests is answered."""
    return echoes(source, destination, count, *options) == count


def is_answered(source: Namespace, destination: str) -> bool:
    """Whether one echo request is answered soon, which it need not be."""
    return ping(source, destination, 1, "-W", "2")


def crossed(meeting: Meeting, path: Path, traffic: Callable[[], object]) -> list[bytes]:
    """The IP packets on the wire between the gateways while `traffic` ran."""
    with capture.Capture(meeting.sites.gw_a, "wan", path) as recording:
        traffic()
        recording.stop()
    return [packet for _, packet in capture.read(path)]
