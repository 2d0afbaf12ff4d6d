"""The mistakes that docs/troubleshooting.md lists, as `ipsec-dp test` tells them: each with the words that the page has for it.

Those of the negotiation are made on the wire of the ladders; those that hinder a start are looked at where they are found.
"""

from __future__ import annotations

import re
import socket
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click
import pytest

from ipsec_dp.cli import lone_trial
from ipsec_dp.cli.trial_view import lines
from ipsec_dp.config import load
from ipsec_dp.errors import ConfigError
from ipsec_dp.gateway.trial_answer import answer_of, notes_on
from ipsec_dp.host import HostError, sockets, tun
from ipsec_dp.host.unreachable import REASONS
from ipsec_dp.ike.auth import PreSharedKey
from ipsec_dp.ike.certificates import Credential, Trust, load_certificates
from ipsec_dp.ike.identity import Identity
from ipsec_dp.ike.peer import SharedKeyAuth, SignatureAuth
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from tests.ike.ladder import peer, proxy_id
from tests.ike.trial_ladder import TrialLadder
from tests.netns.mistakes import MISTAKES, CertificatePair
from tests.unit.other_user import User

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipsec_dp.gateway.trial_answer import TrialAnswer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
NOW = datetime.now(UTC)


def documented(name: str) -> list[str]:
    """What the page says that who calls is told, in pieces."""
    section = next(part for part in PAGE.read_text().split("\n### ") if part.startswith(f"{name}\n"))
    row = re.search(r"^\| calls \| (.+) \|$", section, re.MULTILINE)
    assert row is not None
    return [piece.strip() for piece in row[1].split("…")]


def holds(text: str, pieces: list[str]) -> bool:
    return re.search(".*?".join(map(re.escape, pieces)), " ".join(text.split())) is not None


# ---- made on the wire ------------------------------------------------------------------------------------------------------------


def tunnel(**changes: Any) -> Any:
    """What an answer asks of a configured one."""
    usual = {"name": "to-b", "remotes": (), "start": "start", "selectors": (1,)}
    return SimpleNamespace(**(usual | changes))


def secret(text: str) -> SharedKeyAuth:
    return SharedKeyAuth(PreSharedKey.from_text(text))


def fitting(**changes: Any) -> Callable[[Path], TrialLadder]:
    """Site A against a site B that differs so."""
    return lambda _: TrialLadder(peer("a"), [peer("b", **changes)])


def without_a_peer(**faults: Any) -> Callable[[Path], TrialLadder]:
    def make(_: Path) -> TrialLadder:
        ladder = TrialLadder()
        for name, value in faults.items():
            setattr(ladder, name, value)
        ladder.wire.cut("a", "b")
        return ladder

    return make


def nat_port_blocked(_: Path) -> TrialLadder:
    forced = {"encapsulation": "udp"}
    ladder = TrialLadder(peer("a", **forced), [peer("b", **forced)])
    ladder.wire.drop("a", "b", *range(2, 40))
    return ladder


def black_hole(_: Path) -> TrialLadder:
    ladder = TrialLadder()
    ladder.mtu = 1000
    return ladder


def certificates(b: tuple[int, int] = (-30, 30), ahead: int = 0, trusted: str = "root") -> Callable[[Path], TrialLadder]:
    """Both sides with certificates; B's is good for these days from now, A's clock is `ahead`, and A trusts one authority."""

    def make(directory: Path) -> TrialLadder:
        CertificatePair(valid=((-30, 60), b), identities=("gwa.example", "gwb.example")).keys(directory)

        def auth(side: int, authority: str) -> SignatureAuth:
            credential = Credential.from_files(directory / f"gw{side}.crt", directory / f"gw{side}.key")
            return SignatureAuth(credential, Trust(load_certificates(directory / f"{authority}.crt")))

        ladder = TrialLadder(peer("a", auth=auth(0, trusted)), [peer("b", auth=auth(1, "root"))], epoch=NOW)
        ladder.calendar = timedelta(days=ahead)
        return ladder

    return make


ONE_IKE, OTHER_IKE = parse_ike(["aes128gcm16-prfsha256-ecp256"]), parse_ike(["aes256gcm16-prfsha384-x25519"])
NEGOTIATED: dict[str, Callable[[Path], TrialLadder]] = {
    "another secret": fitting(auth=secret("quite another secret")),
    "another identity": fitting(remote_id=Identity.from_text("else.example")),
    "no IKE proposal in common": lambda _: TrialLadder(peer("a", ike_proposals=ONE_IKE), [peer("b", ike_proposals=OTHER_IKE)]),
    "no ESP proposal in common": fitting(esp_proposals=parse_esp(["chacha20poly1305"])),
    "other selectors": fitting(proxy_ids=(proxy_id("10.9.0.0/24", "10.1.0.0/24"),)),
    "the peer's host is down": without_a_peer(),
    "nothing listens at the peer": without_a_peer(rejects=REASONS[4][3]),
    "UDP port 500 blocked": without_a_peer(),
    "UDP port 4500 blocked": nat_port_blocked,
    "this host's own packet filter": without_a_peer(refuses=sockets.refusal(1)),
    "the peer's certificate has expired": certificates(b=(-30, 5), ahead=10),
    "the peer's certificate is not valid yet": certificates(b=(-1, 30), ahead=-10),
    "an authority that is not trusted": certificates(trusted="another"),
    "an MTU black hole": black_hole,
}


def shown(answer: TrialAnswer) -> str:
    return click.unstyle("\n".join(lines(answer, messages=False)))


@pytest.mark.parametrize("name", NEGOTIATED)
def test_a_mistake_is_told_with_the_words_of_the_page(name, tmp_path):
    ladder = NEGOTIATED[name](tmp_path)
    began = ladder.clock()
    ladder.try_it()
    answer = answer_of(tunnel(), [ladder.attempt], (), NOW)
    assert holds(shown(answer), documented(name)), shown(answer)
    assert not answer.passed
    assert ladder.clock() - began < 15
    assert max(map(len, shown(answer).splitlines())) <= 80


def test_a_tunnel_without_a_mistake_passes(tmp_path):
    for make in (fitting(), certificates()):
        answer = answer_of(tunnel(), [make(tmp_path).try_it().attempt], (), NOW)
        assert answer.passed, shown(answer)
        assert [step.state for step in answer.steps] == ["ok"] * 4
    assert [each.side for each in answer.certificates] == ["ours", "peer"]
    assert [each.fault for each in answer.certificates] == [None, None]


# ---- what the configuration and the gateway say already --------------------------------------------------------------------------

SIDES = '  [[tunnel.proxy_id]]\n  local = "10.1.0.0/24"\n  remote = "10.1.0.0/24"\n'
FILE = """
[gateway]
name = "a"
[[tunnel]]
name = "to-b"
local = "192.0.2.1"
remote = "192.0.2.2"
interface = "ipsec0"
start = "{start}"
{sides}
  [tunnel.auth]
  local_id = "gwa.example"
  remote_id = "gwb.example"
  {auth}
  [tunnel.ike]
  {ike}
"""
PSK = 'psk_file = "all.psk"'
BY_CERTIFICATE = 'certificate = "gw0.crt"\n  private_key = "{key}"\n  ca = ["root.crt"]'


def written(directory: Path, *, start: str = "start", sides: str = "", auth: str = PSK, ike: str = "") -> Path:
    (directory / "all.psk").touch(mode=0o600)
    (directory / "all.psk").write_text("a secret of thirty-two characters")
    file = directory / "a.toml"
    file.write_text(FILE.format(start=start, sides=sides, auth=auth, ike=ike))
    return file


def noted(file: Path, conditions: tuple[str, ...] = ()) -> str:
    config = load(file)
    return "\n".join(notes_on(config.tunnel("to-b"), config.warnings, conditions))


def test_both_wait_to_be_called(tmp_path):
    assert holds(noted(written(tmp_path, start="respond")), documented("both wait to be called"))
    assert noted(written(tmp_path)) == "", "and nothing where one calls"


def test_one_prefix_on_both_sides(tmp_path):
    assert holds(noted(written(tmp_path, sides=SIDES)), documented("one prefix on both sides"))


def test_ip_protocol_50_blocked(tmp_path):
    """Only traffic shows it: the gateway has noticed, and the test repeats it, of this tunnel alone."""
    pieces = documented("IP protocol 50 blocked")
    trouble = " 9 ".join(pieces)
    assert holds(noted(written(tmp_path), (f'tunnel "to-b": {trouble}', 'tunnel "to-bb": something else')), pieces)
    assert "something else" not in noted(written(tmp_path), (f'tunnel "to-b": {trouble}', 'tunnel "to-bb": something else'))


def test_what_configuration_and_gateway_both_say_is_noted_once(tmp_path):
    risk = "aggressive mode says in clear who both sides are"
    file = written(tmp_path, ike='version = "1"\n  mode = "aggressive"\n  proposals = ["aes256-sha256-ecp256"]')
    (said,) = [finding for finding in load(file).warnings if risk in str(finding)]
    assert noted(file, (f'tunnel "to-b": {risk}', 'tunnel "to-b": another')).splitlines() == [str(said), 'tunnel "to-b": another']


def test_without_traffic_a_test_says_that_esp_was_not_tried():
    answer = answer_of(tunnel(), [TrialLadder(peer("a", encapsulation="esp")).try_it().attempt], (), NOW)
    words = 'IP protocol 50 (ESP) is blocked on the way, while IKE passes: let it pass, or try encapsulation = "udp" here'
    assert any(words in note for note in answer.notes)
    assert words in " ".join(documented("IP protocol 50 blocked"))


# ---- before there is a gateway ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "valid", "key"),
    [
        ("our certificate has expired", (-30, -1), "gw0.key"),
        ("our certificate is not valid yet", (3, 30), "gw0.key"),
        ("a private key that cannot be read", (-1, 30), "gone.key"),
    ],
)
def test_a_file_that_up_refuses_is_refused_with_the_same_words(name, valid, key, tmp_path):
    CertificatePair(valid=(valid, (-1, 30)), identities=("gwa.example", "gwb.example")).keys(tmp_path)
    file = written(tmp_path, auth=BY_CERTIFICATE.format(key=key))
    with pytest.raises(ConfigError) as refused:
        lone_trial.run("to-b", file)
    assert holds(str(refused.value), documented(name)), refused.value
    assert refused.value.exit_status == 2


@pytest.mark.root
def test_the_port_is_taken():
    here = ip_address("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as another:
        another.bind((str(here), sockets.IKE_PORT))
        with pytest.raises(HostError) as refused:
            lone_trial.LoneSockets(here)
    assert holds(str(refused.value), documented("the port is taken"))
    with lone_trial.LoneSockets(here):
        pass  # and it is free again


@pytest.mark.root
def test_not_root():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        file = written(Path(name))
        file.chmod(0o600)
        (said,) = User().commands(f"test to-b --file {file}")
    assert (said.status, said.out) == (2, "")
    assert holds(said.err, documented("not root"))


def raising(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "no TUN device",
            f"/dev/net/tun is not there: {tun.NO_DEVICE}",
        ),
        ("no nft", "nft is not installed, and without it there is no guard: apt-get install nftables"),
    ],
)
def test_what_up_would_not_start_for_is_said_beside_the_outcome(name, words):
    (said,) = lone_trial.hindrances((raising(HostError(words)), lambda: None))
    assert holds(said, documented(name))
    assert lone_trial.hindrances((lambda: None,)) == []


def test_every_mistake_of_the_page_has_its_test():
    here = Path(__file__).read_text()
    assert {name for name in MISTAKES if f'"{name}"' not in here} == set()
