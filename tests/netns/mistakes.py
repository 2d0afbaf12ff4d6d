"""Twenty mistakes that people make with a tunnel, made on purpose, and what each side must then say of them.

A mistake changes two gateways that would work (`Case`): their files, their programs, what lies between them. `Told` holds two
regular expressions for a side: what names the cause, or the right candidates, and what says what to do.
"""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ipsec_dp.rig import netns
from ipsec_dp.rig.process import IkePair, write_pair
from tests.netns import harness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipsec_dp.rig.netns import Namespace

IPSEC_DP = (sys.executable, "-m", "ipsec_dp")
BOTH = "ab"
PATIENCE_S = 40.0  # from `up` on; nobody waits so long where everything is told
ALONE = "mount --make-rprivate /; mount --bind /dev/null {path}; exec "
DROP = "table inet blocked {{\nchain in {{\ntype filter hook prerouting priority -300\niifname wan {rule} drop\n}}\n}}\n"
FILTERED_HERE = "table inet own {\nchain out {\ntype filter hook output priority 0\nudp dport { 500, 4500 } drop\n}\n}\n"
ELSEWHEN = (
    "import datetime, runpy, sys; from ipsec_dp.util.clock import SystemClock; "
    "SystemClock.utc = lambda self: datetime.datetime.now(datetime.UTC) + datetime.timedelta(days={days}); "
    "sys.argv[0] = 'ipsec-dp'; runpy.run_module('ipsec_dp', run_name='__main__')"
)

TAKES_PORT_500 = (
    "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 500)); print(flush=True); "
    "time.sleep(60)"
)


class Told(NamedTuple):
    """What one side says: regular expressions."""

    cause: str
    remedy: str


class Mistake(NamedTuple):
    """`make` makes it; `told` by side, "a" calls and "b" is called. `least`: the grade that each side must reach in time."""

    make: Callable[[Case], None]
    told: dict[str, Told]
    least: int = 3


@dataclass
class Case:
    """Two gateways before they are started. `files` by side; `program` is how a side's `ipsec-dp` is started."""

    sites: netns.TwoSites
    directory: Path
    pair: IkePair = field(default_factory=IkePair)
    program: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict.fromkeys(BOTH, IPSEC_DP))
    started: str = "ba"  # in this order
    ping: tuple[str, ...] = (netns.HOST_B[0],)  # what hostA asks each second
    back: tuple[str, ...] = ()  # and hostB
    undo: list[Callable[[], object]] = field(default_factory=list)
    changes: list[tuple[str, str, str]] = field(default_factory=list)

    def write(self) -> dict[str, Path]:
        """The files, with every change made."""
        files = dict(zip(BOTH, write_pair(self.directory, self.pair), strict=True))
        for side, old, new in self.changes:
            text = files[side].read_text()
            assert re.search(old, text), f"{old} is not in {side}'s file"
            files[side].write_text(re.sub(old, new, text))
        return files

    def change(self, side: str, old: str, new: str) -> None:
        """`old`: a regular expression. Made when the files are written."""
        self.changes.append((side, old, new))

    def gateway(self, side: str) -> Namespace:
        return self.sites.gw_a if side == "a" else self.sites.gw_b

    def block(self, side: str, rule: str) -> None:
        """Drops what an nftables rule matches where it comes in at one side."""
        self.gateway(side).run("nft", "-f", "-", stdin=DROP.format(rule=rule))
        self.undo.append(lambda: self.gateway(side).run("nft", "delete", "table", "inet", "blocked"))

    def without(self, side: str, path: str) -> None:
        """This side's program finds /dev/null where a file was."""
        self.program[side] = ("unshare", "-m", "sh", "-c", ALONE.format(path=path) + '"$@"', "sh", *IPSEC_DP)


# ---- certificates


@dataclass(frozen=True, kw_only=True)
class CertificatePair(IkePair):
    """The same with certificates. `valid`: of each side's, in days from now; `authorities`: which of two each side trusts."""

    valid: tuple[tuple[int, int], tuple[int, int]] = ((-1, 30), (-1, 30))
    authorities: tuple[str, str] = ("root", "root")

    def keys(self, directory: Path) -> tuple[str, str]:
        for name in ("root", "another"):
            _issue(directory, name, name, (-3000, 3000))
        tables = []
        for side, identity in enumerate(self.identities):
            _issue(directory, f"gw{side}", "root", self.valid[side], identity)
            tables.append(
                f'  [tunnel.auth]\n  local_id = "{identity}"\n  remote_id = "{self.identities[1 - side]}"\n'
                f'  certificate = "gw{side}.crt"\n  private_key = "gw{side}.key"\n  ca = ["{self.authorities[side]}.crt"]\n'
                f"  [tunnel.ike]\n{self.ike[side]}\n  [tunnel.esp]\n{self.esp[side]}\n"
            )
        return tables[0], tables[1]


def _issue(directory: Path, name: str, issuer: str, days: tuple[int, int], identity: str = "") -> None:
    """NAME.crt and NAME.key; an authority without `identity`."""
    key = ec.generate_private_key(ec.SECP256R1())
    title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} of {directory.name}")])
    above, signer = title, key
    if issuer != name:
        above = x509.load_pem_x509_certificate((directory / f"{issuer}.crt").read_bytes()).subject
        loaded = serialization.load_pem_private_key((directory / f"{issuer}.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(above, title, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now + timedelta(days[0])).not_valid_after(now + timedelta(days[1]))
    made = made.add_extension(x509.BasicConstraints(ca=not identity, path_length=None), critical=True)
    if identity:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(identity)]), critical=False)
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / f"{name}.key").touch(mode=0o600)
    (directory / f"{name}.key").write_bytes(secret)
    (directory / f"{name}.crt").write_bytes(made.sign(signer, hashes.SHA256()).public_bytes(pem))


def certificates(
    side: str = "", *, valid: tuple[int, int] = (-1, 30), clock: int = 0, authorities: tuple[str, str] = ("root", "root")
):
    """Both sides with certificates; one's is good for `valid` days from now, and the caller's clock is `clock` days ahead."""

    def make(case: Case) -> None:
        each = tuple(valid if side == of else (-30, 30) for of in BOTH)
        case.pair = CertificatePair(valid=(each[0], each[1]), authorities=authorities)
        if clock:
            case.program["a"] = (sys.executable, "-c", ELSEWHEN.format(days=clock))

    return make


# ---- the mistakes


def on(side: str, old: str, new: str) -> Callable[[Case], None]:
    return lambda case: case.change(side, old, new)


def other_secret(case: Case) -> None:
    path = case.directory / "other.psk"
    path.touch(mode=0o600)
    path.write_text("0123456789abcdef0123456789abcdef")
    case.change("b", "tunnel.psk", "other.psk")


def other_proposals(table: str, words: tuple[str, str]) -> Callable[[Case], None]:
    def make(case: Case) -> None:
        for side, word in zip(BOTH, words, strict=True):
            case.change(side, rf"\[tunnel\.{table}\]", f'[tunnel.{table}]\n  proposals = ["{word}"]')

    return make


def one_pair(case: Case) -> None:
    case.pair = IkePair(proxy_ids=((netns.SITE_A_NETS[0], netns.SITE_B_NETS[0]),))
    case.change("b", r"10\.2\.0\.0/24", "10.9.0.0/24")


def peer_down(case: Case) -> None:
    case.started = "a"
    case.block("b", "meta nfproto ipv4")


def no_program(case: Case) -> None:
    case.started = "a"


def blocked(rule: str, encapsulation: str = "auto") -> Callable[[Case], None]:
    def make(case: Case) -> None:
        case.pair = IkePair(encapsulation=encapsulation)
        for side in BOTH:
            case.block(side, rule)

    return make


def esp_blocked(case: Case) -> None:
    blocked("meta l4proto esp", "esp")(case)
    case.back = (netns.HOST_A[0],)


def filtered_here(case: Case) -> None:
    """By gateway A's own packet filter: what it sends, and what it answers."""
    case.sites.gw_a.run("nft", "-f", "-", stdin=FILTERED_HERE)
    case.undo.append(lambda: case.sites.gw_a.run("nft", "delete", "table", "inet", "own"))


def unreadable_key(case: Case) -> None:
    certificates()(case)
    case.change("a", "gw0.key", "gone.key")
    case.started = "a"


def port_taken(case: Case) -> None:
    taker = case.sites.gw_a.spawn(sys.executable, "-c", TAKES_PORT_500, stdout=-1)
    assert taker.stdout is not None
    taker.stdout.readline()
    case.undo += [taker.wait, taker.kill]  # the last one first
    case.started = "a"


def without(path: str | None) -> Callable[[Case], None]:
    def make(case: Case) -> None:
        assert path is not None
        case.without("a", path)
        case.started = "a"

    return make


def no_tun(case: Case) -> None:
    case.started = "a"
    script = "mount --make-rprivate /; mount -t tmpfs tmpfs /dev/net; exec "
    case.program["a"] = ("unshare", "-m", "sh", "-c", script + '"$@"', "sh", *IPSEC_DP)


def not_root(case: Case) -> None:
    case.program["a"] = ("setpriv", "--reuid", "65534", "--clear-groups", "--bounding-set", "-all", "--inh-caps", "-all", *IPSEC_DP)
    case.started = "a"


def black_hole(case: Case) -> None:
    """Large datagrams are lost between them, and nobody says so."""
    for side in BOTH:
        case.block(side, "meta length > 1000 meta l4proto { udp, esp }")
    case.ping = ("-s", "1200", netns.HOST_B[0])


def both_respond(case: Case) -> None:
    case.pair = IkePair(start=("respond", "respond"))


def same_prefix(case: Case) -> None:
    case.pair = IkePair(proxy_ids=((netns.SITE_A_NETS[0], netns.SITE_A_NETS[0]),))


SECRETS = r"either the secrets differ, or the identities do"
IKE_WORDS, ESP_WORDS = ("aes128gcm16-prfsha256-ecp256", "aes256gcm16-prfsha384-x25519"), ("aes128gcm16", "chacha20poly1305")

MISTAKES: dict[str, Mistake] = {
    "another secret": Mistake(
        other_secret,
        {"a": Told(SECRETS, r"psk_file"), "b": Told(r"shared keys differ", r"psk_file")},
    ),
    "another identity": Mistake(
        on("b", 'remote_id = "gw-a.example"', 'remote_id = "else.example"'),
        {
            "a": Told(SECRETS, r"remote_id"),
            "b": Told(r"gw-a\.example.*else\.example|else\.example.*gw-a\.example", r"remote_id"),
        },
    ),
    "no IKE proposal in common": Mistake(
        other_proposals("ike", IKE_WORDS),
        {
            "a": Told(rf"accepts none of our IKE proposals \({IKE_WORDS[0]}\)", r"ike\.proposals"),
            "b": Told(rf"{IKE_WORDS[0]}[\s\S]*{IKE_WORDS[1]}|{IKE_WORDS[1]}[\s\S]*{IKE_WORDS[0]}", r"ike\.proposals"),
        },
    ),
    "no ESP proposal in common": Mistake(
        other_proposals("esp", ESP_WORDS),
        {
            "a": Told(rf"accepts none of our ESP proposals \({ESP_WORDS[0]}", r"esp\.proposals"),
            "b": Told(rf"{ESP_WORDS[0]}[\s\S]*{ESP_WORDS[1]}|{ESP_WORDS[1]}[\s\S]*{ESP_WORDS[0]}", r"esp\.proposals"),
        },
    ),
    "other selectors": Mistake(
        one_pair,
        {
            "a": Told(r"accepts none of our selectors \([^\n]*10\.1\.0\.0/24 <-> [^\n]*10\.2\.0\.0/24\)", r"proxy_id"),
            "b": Told(r"no proxy ID fits: ours: local 10\.9\.0\.0/24 [^\n]*peer's: local [^\n]*10\.2\.0\.0/24", r"proxy_id"),
        },
    ),
    "the peer's host is down": Mistake(
        peer_down, {"a": Told(r"IKE_SA_INIT.*192\.0\.2\.2.*down|192\.0\.2\.2.*IKE_SA_INIT.*down", r"UDP port 500|`remote`|ping")}
    ),
    "nothing listens at the peer": Mistake(no_program, {"a": Told(r"192\.0\.2\.2.*refuse|port unreachable", r"no IKE|start")}),
    "UDP port 500 blocked": Mistake(
        blocked("udp dport 500"), {"a": Told(r"IKE_SA_INIT[\s\S]*UDP port 500", r"(?i)let UDP port 500 pass")}
    ),
    "UDP port 4500 blocked": Mistake(
        blocked("udp dport 4500", "udp"),
        {
            "a": Told(r"IKE_INTERMEDIATE[\s\S]*4500", r"(?i)let UDP (port 4500|ports 500 and 4500) pass"),
            "b": Told(r"4500", r"(?i)let UDP (port 4500|ports 500 and 4500) pass"),
        },
    ),
    "this host's own packet filter": Mistake(
        filtered_here, {"a": Told(r"IKE_SA_INIT[^\n]*this host itself refuses to send: EPERM", r"look at the output chains")}
    ),
    "IP protocol 50 blocked": Mistake(
        esp_blocked,
        {side: Told(r"(protocol 50|ESP)[^\n]*(blocked|lost)", r"encapsulation = \"udp\"") for side in BOTH},
    ),
    "our certificate has expired": Mistake(
        certificates("a", valid=(-30, -1)), {"a": Told(r"the certificate CN=gw0[^\n]* has expired", r"name a valid certificate")}
    ),
    "our certificate is not valid yet": Mistake(
        certificates("a", valid=(3, 30)),
        {"a": Told(r"the certificate CN=gw0[^\n]* is not yet valid", r"is this host's clock right")},
    ),
    "the peer's certificate has expired": Mistake(
        certificates("b", valid=(-30, 5), clock=10),
        {
            "a": Told(
                r"did not prove who it is: the certificate CN=gw1[^\n]* has expired", r"if that is right, it must be renewed"
            ),
            "b": Told(r"the peer says that we did not prove who we are", r"our certificate must lead to its `ca`"),
        },
    ),
    "the peer's certificate is not valid yet": Mistake(
        certificates("b", valid=(-1, 30), clock=-10),
        {
            "a": Told(r"did not prove who it is: the certificate CN=gw1[^\n]* is not yet valid", r"is this host's clock right"),
            "b": Told(r"the peer says that we did not prove who we are", r"our certificate must lead to its `ca`"),
        },
    ),
    "an authority that is not trusted": Mistake(
        certificates(authorities=("another", "root")),
        {
            "a": Told(
                r"does not lead to one of our authorities: its issuer CN=root[^\n]* is not known", r"add that authority to `ca`"
            ),
            "b": Told(r"the peer says that we did not prove who we are", r"our certificate must lead to its `ca`"),
        },
    ),
    "a private key that cannot be read": Mistake(
        unreadable_key, {"a": Told(r"private_key: no such file: .*gone\.key", r"create it, or name one that exists")}
    ),
    "the port is taken": Mistake(port_taken, {"a": Told(r"(port 500|:500).*(in use|taken)", r"stop|ss -|another")}),
    "no TUN device": Mistake(no_tun, {"a": Told(r"/dev/net/tun", r"modprobe tun|--device|mknod")}),
    "no nft": Mistake(
        without(shutil.which("nft", path=harness.ENVIRONMENT["PATH"])), {"a": Told(r"nft", r"apt-get install nftables")}
    ),
    "not root": Mistake(not_root, {"a": Told(r"root|permitted|CAP_NET_ADMIN|denied", r"root|CAP_NET_ADMIN")}),
    "an MTU black hole": Mistake(black_hole, {"a": Told(r"MTU black hole", r"let ICMP [^\n]*through")}),
    "both wait to be called": Mistake(
        both_respond,
        {
            "a": Told(r"waiting for the peer to call", r"`ipsec-dp initiate` calls it"),
            "b": Told(r"waiting for the peer to call", r"`ipsec-dp initiate` calls it"),
        },
    ),
    "one prefix on both sides": Mistake(
        same_prefix,
        {"a": Told(r"10\.1\.0\.0/24 is the prefix of both sides", r"renumber one side")},
    ),
}
