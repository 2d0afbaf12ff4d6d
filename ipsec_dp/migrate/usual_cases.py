"""The usual cases of a first file: what each asks for, the draft of the answers, and what the other side has to be set to."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipsec_dp.config import tables
from ipsec_dp.config.quantities import parse_address, parse_identity, parse_prefix, parse_remote
from ipsec_dp.config.resolve import check_name
from ipsec_dp.errors import BadValueError
from ipsec_dp.ike.proposal import DEFAULT_ESP, DEFAULT_IKE
from ipsec_dp.ike.v1.registry import DEFAULT_PHASE1, DEFAULT_PHASE2
from ipsec_dp.ipsec.transforms import Group, by_keyword
from ipsec_dp.migrate.algorithms import kind_of
from ipsec_dp.migrate.draft import FileDraft, Setting, SourceLine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PSK_OCTETS: Final = 32
NETWORKS_MOST: Final = 64


@dataclass(frozen=True, slots=True)
class UsualCase:
    """One of the cases. `needs`: answers without which there is no file."""

    name: str
    title: str
    needs: tuple[str, ...]
    start: str
    version: str = "2"
    certificates: bool = False


_PSK: Final = ("remote", "local_net", "remote_net", "psk_file")
_CERTIFICATES: Final = ("remote", "local_net", "remote_net", "local_id", "remote_id", "certificate", "private_key", "ca")
CASES: Final = {
    case.name: case
    for case in (
        UsualCase("site-to-site", "two sites, a shared key", _PSK, "start"),
        UsualCase("certificates", "two sites, certificates", _CERTIFICATES, "start", certificates=True),
        UsualCase(
            "hub", "a hub: one peer calls, from wherever it is", ("local_net", "remote_net", "remote_id", "psk_file"), "respond"
        ),
        UsualCase("on-demand", "two sites, up with the first packet", _PSK, "on-demand"),
        UsualCase("ikev1", "an old appliance that speaks IKEv1 alone", _PSK, "start", version="1"),
    )
}


@dataclass(frozen=True, slots=True)
class CaseQuestion:
    """An answer that is asked for, and taken as an option: what it is, an example, and what makes one of a text."""

    key: str
    text: str
    example: str
    parse: Callable[[str], object] = str

    @property
    def option(self) -> str:
        return "--" + self.key.replace("_", "-")


def networks(text: str) -> tuple[str, ...]:
    """Prefixes, separated by commas. Raises BadValueError."""
    found = tuple(str(parse_prefix(part.strip())) for part in text.split(",") if part.strip())
    if not 0 < len(found) <= NETWORKS_MOST:
        raise BadValueError(f"{len(found)} networks", f"write 1 to {NETWORKS_MOST}, separated by commas")
    return found


QUESTIONS: Final = (
    CaseQuestion("name", "Name of this gateway", "site-a", check_name),
    CaseQuestion("tunnel", "Name of the tunnel", "to-b", check_name),
    CaseQuestion("remote", "The peer's address, or DNS name", "192.0.2.2", parse_remote),
    CaseQuestion("local", "Our outer address", "192.0.2.1", parse_address),
    CaseQuestion("local_net", "Our networks, by comma", "10.1.0.0/24", networks),
    CaseQuestion("remote_net", "The peer's networks, by comma", "10.2.0.0/24", networks),
    CaseQuestion("local_id", "Our identity (empty: our address)", "gw-a.example", parse_identity),
    CaseQuestion("remote_id", "The peer's identity (empty: its address)", "gw-b.example", parse_identity),
    CaseQuestion("psk_file", "File of the shared key, beside the file", "to-b.psk"),
    CaseQuestion("certificate", "Our certificate, PEM", "gw-a.pem"),
    CaseQuestion("private_key", "Its private key, PEM, mode 0600", "gw-a.key"),
    CaseQuestion("ca", "The authority of the peer's certificate, PEM", "ca.pem"),
)


def fresh_key(random: Callable[[int], bytes]) -> bytes:
    """A shared key as text, 256 bits in base64. One that begins like 0x… or 0s… would be read as another, so it is drawn again."""
    while True:
        text = base64.b64encode(random(PSK_OCTETS))
        if not text.lower().startswith((b"0x", b"0s")):
            return text + b"\n"


def draft_of(case: UsualCase, answers: Mapping[str, str], key: bytes | None, source: str | None = None) -> FileDraft:
    """The file. `key`: what `psk_file` is to hold, where it is to be made; `source`: where the route to the peer begins now."""
    draft = FileDraft(case.title)
    if "name" in answers:
        draft.gateway["name"] = Setting(answers["name"], "also names the control socket")
    tunnel = draft.tunnel(answers.get("tunnel", "peer"), SourceLine(case.name, 1))
    from_where = "" if source is None else f"from where the route to it begins, now {source}; local fixes another"
    tunnel.put("remote", answers.get("remote", "any"), from_where if "remote" in answers else "it calls, from wherever it is")
    if "local" in answers:
        tunnel.put("local", answers["local"], "may be left out: then it follows the route to remote")
    tunnel.put("start", case.start, _STARTS[case.start])
    for ours in networks(answers["local_net"]):
        for theirs in networks(answers["remote_net"]):
            if ipaddress.ip_network(ours).version == ipaddress.ip_network(theirs).version:
                tunnel.proxy_ids.append(tables.ProxyId(local=ours, remote=theirs))
    for name in ("local_id", "remote_id"):
        if name in answers:
            tunnel.put(f"auth.{name}", answers[name])
    if case.certificates:
        tunnel.put("auth.certificate", answers["certificate"], "holds local_id")
        tunnel.put("auth.private_key", answers["private_key"], "mode 0600")
        tunnel.put("auth.ca", (answers["ca"],), "issued the peer's certificate")
    else:
        tunnel.put("auth.psk_file", answers["psk_file"], "mode 0600; the peer has the same key")
        tunnel.secret = key
    tunnel.put("ike.version", case.version, "main mode; the peer speaks nothing newer" if case.version == "1" else "IKEv2")
    tunnel.put("ike.proposals", _phase1(case), "the default: the first that both sides have counts")
    tunnel.put("ike.lifetime", "8h")
    tunnel.put("esp.proposals", _phase2(case), "the default")
    tunnel.put("esp.lifetime", "1h")
    return draft


_STARTS: Final = {
    "start": 'now and for ever; "on-demand" waits for the first packet',
    "on-demand": 'with the first packet; "start": now and for ever',
    "respond": "when the peer calls",
}


def _phase1(case: UsualCase) -> tuple[str, ...]:
    return DEFAULT_PHASE1 if case.version == "1" else DEFAULT_IKE


def _phase2(case: UsualCase) -> tuple[str, ...]:
    return DEFAULT_PHASE2 if case.version == "1" else DEFAULT_ESP


def other_side(case: UsualCase, answers: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the peer has to be set to, by what it is called nearly everywhere."""
    ours = answers.get("local", "the address of this host that it reaches")
    rows = [
        ("IKE version", f"IKEv{case.version}" + (", main mode" if case.version == "1" else "")),
        ("its peer (remote gateway)", ours),
        ("its own address", answers.get("remote", "any; it calls")),
        ("its networks", answers["remote_net"]),
        ("our networks", answers["local_net"]),
        ("its identity", answers.get("remote_id", answers.get("remote", ""))),
        ("our identity", answers.get("local_id", answers.get("local", "our address"))),
        ("authentication", _authentication(case, answers)),
        ("phase 1 (IKE)", f"{_plain(_phase1(case))}; 8 hours"),
        ("phase 2 (ESP)", f"{_plain(_phase2(case))}; PFS off; 1 hour"),
        ("its firewall", "UDP 500 and 4500, and IP protocol 50, from and to us"),
    ]
    return [(what, value) for what, value in rows if value]


def _plain(proposals: tuple[str, ...]) -> str:
    """Proposals as most user interfaces have them: a list of each kind, groups by their number."""
    words = dict.fromkeys(word for text in proposals for word in text.split("-"))
    parts = []
    for kind, title in (("encryption", "encryption"), ("integrity", "integrity"), ("prf", "PRF"), ("group", "groups")):
        found = [word for word in words if kind_of(word) == kind]
        numbers = [f"{algorithm.id} ({word})" for word in found if isinstance(algorithm := by_keyword(word), Group)]
        parts += [f"{title} {', '.join(numbers or found)}"] if found else []
    return "one of each: " + "; ".join(parts)


def _authentication(case: UsualCase, answers: Mapping[str, str]) -> str:
    if case.certificates:
        return f"certificates: its own from {answers['ca']}, and the authority of {answers['certificate']}"
    return f"pre-shared key: the text in {answers['psk_file']}"


def mirrored(case: UsualCase, answers: Mapping[str, str]) -> str | None:
    """The command that makes the other side's file, where that is this program too; None: an answer or a certificate lacks."""
    if case.certificates or "local" not in answers or "remote" not in answers:
        return None
    swapped = {"remote": answers["local"], "local": answers["remote"]}
    swapped |= {"local_net": answers["remote_net"], "remote_net": answers["local_net"], "psk_file": answers["psk_file"]}
    for ours, theirs in (("local_id", "remote_id"), ("remote_id", "local_id")):
        if theirs in answers:
            swapped[ours] = answers[theirs]
    words = [f"--{key.replace('_', '-')} {_quoted(value)}" for key, value in swapped.items()]
    return f"ipsec-dp init --case {case.name} {' '.join(words)}"


def _quoted(text: str) -> str:
    return text if text and all(each.isalnum() or each in "._-/:@," for each in text) else "'" + text.replace("'", "'\\''") + "'"
