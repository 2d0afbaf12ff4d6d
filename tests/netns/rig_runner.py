"""Carries the scenarios of `rig_scenarios` out, in memory or in namespaces, and says what came of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ipsec_dp.ike.actions import Kind
from ipsec_dp.rig import NatBox, NetnsNetwork, NetnsWire, Network, RigError, Wire
from ipsec_dp.rig.packets import udp, udp_of_size
from tests.netns.rig_scenarios import ALL, GROUPS, Group, Scenario

PLACES: dict[str, tuple[Any, Any]] = {"memory": (Network, Wire), "netns": (NetnsNetwork, NetnsWire)}
NOT_COMPARED = {Kind.NOTE, Kind.HINT, Kind.PATH, Kind.WARNING}
NAT_ADDRESS = "203.0.113.1"
LONG = 1400  # octets
SETTLES_S = 0.5
SHOWN = 6  # events in a line of the table
LATE_S = 30.0
KEYS: dict[str, Callable[[], Any]] = {
    "ec": partial(ec.generate_private_key, ec.SECP256R1()),
    "rsa": partial(rsa.generate_private_key, 65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
VALID = datetime(2020, 1, 1, tzinfo=UTC), datetime(2060, 1, 1, tzinfo=UTC)
USUAL = {"a": "start", "b": "respond"}


def authorities():
    """The certificates that scenarios name, as files by name: they hold for as long as anybody's clock may show."""
    issuers = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "other")}
    files = {f"{name}.crt": signed(name, key.public_key(), name, key) for name, key in issuers.items()}
    for kind, make in KEYS.items():
        for who in "ab":
            key, name = make(), f"{kind}-{who}"
            named = [f"{who}{number}.example" for number in using(f"{name}.crt")]
            files[f"{name}.crt"] = signed(who, key.public_key(), "ca", issuers["ca"], named)
            files[f"{name}.key"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return files


def using(file):
    """The numbers of scenarios with a certificate."""
    tables = ((number, each) for group in GROUPS for number, each in enumerate(group.scenarios, 1))
    return sorted(
        {number for number, each in tables for side in (each.a, each.b) if side.get("auth", {}).get("certificate") == file}
    )


def signed(subject, key, issuer, by, named=()):
    builder = x509.CertificateBuilder(common_name(issuer), common_name(subject), key, x509.random_serial_number(), *VALID)
    builder = builder.add_extension(x509.BasicConstraints(ca=not named, path_length=None), critical=True)
    if named:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, named))), critical=False)
    return builder.sign(by, hashes.SHA256()).public_bytes(Encoding.PEM)


def common_name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def filled(value, places):
    match value:
        case str():
            return value.format(**places)
        case dict():
            return {key: filled(each, places) for key, each in value.items()}
        case list() | tuple():
            return [filled(each, places) for each in value]
    return value


def merged(base, *others):
    """Tables within tables too; None takes a key away."""
    result = dict(base)
    for other in others:
        for key, value in other.items():
            old = result.get(key)
            result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return {key: value for key, value in result.items() if value is not None}


def tunnel(scenario: Scenario, number: int, who: str, later=None, *, crowd=False):
    other = "b" if who == "a" else "a"
    outer = 1 if crowd else number
    places = {"n": number, "a": f"10.{number}.1", "b": f"10.{number}.2"}
    base = {
        "name": scenario.name.replace(" ", "-").replace(":", ""),
        "local": f"10.200.{outer}.{1 + (who == 'b')}",
        "remote": f"10.200.{outer}.{1 + (who == 'a')}",
        "interface": "ipsec0",
        "start": USUAL[who],
        "proxy_id": [{"local": f"{places[who]}.0/24", "remote": f"{places[other]}.0/24"}],
        "auth": {"local_id": f"{who}{number}.example", "remote_id": f"{other}{number}.example", "psk_file": "right.psk"},
        "ike": {},
        "esp": {},
    }
    return filled(merged(base, scenario.both, scenario.a if who == "a" else scenario.b, later or {}), places)


def configuration(group: Group, who: str, *, later: bool):
    """After the reload, or before."""
    tunnels = []
    for number, scenario in enumerate(group.scenarios, 1):
        change = scenario.later[who == "b"] if later and scenario.later else {}
        if (scenario.there or later) and change is not None:
            tunnels.append(tunnel(scenario, number, who, change, crowd=group.crowd))
    return {"gateway": {"name": who}, "tunnel": tunnels}


def addresses(group: Group, who: str):
    """The outer addresses of all tunnels that it has or gets."""
    return list(
        dict.fromkeys(
            tunnel(scenario, number, who, crowd=group.crowd)["local"] for number, scenario in enumerate(group.scenarios, 1)
        )
    )


@dataclass(frozen=True)
class Side:
    """What one gateway has to show for a scenario."""

    state: str
    events: tuple[str, ...]
    sas: tuple[str, ...]
    cookies: bool = False


def word_of_end(scenario: Scenario, who: str) -> bool:
    return f"{who}: closes" in scenario.words


class Meeting:
    """Two gateways, and a group's scenarios between them, step by step."""

    def __init__(self, place: str, group: Group, files) -> None:
        network, wire = PLACES[place]
        nat = NatBox("a", NAT_ADDRESS) if group.nat else None
        self.group, self.files = group, files
        self.network = network(wire=wire(mtu=group.mtu, nat=nat))
        self.names = {each.name: tunnel(each, 1, "a")["name"] for each in group.scenarios}
        self.numbers = {each.name: number for number, each in enumerate(group.scenarios, 1)}
        self.got: Counter[str] = Counter()
        self.stuck: dict[str, str] = {}
        self.sides: dict[str, Any] = {}

    def run(self):
        with self.network as network:
            for who in "ba":
                self.sides[who] = network.gateway(
                    configuration(self.group, who, later=False), files=self.files, addresses=addresses(self.group, who)
                )
            for turn in range(max(len(each.words) for each in self.group.scenarios)):
                now = [(each, each.words[turn]) for each in self.group.scenarios if turn < len(each.words)]
                self._turn([(each, word) for each, word in now if each.name not in self.stuck])
            network.clock.advance(SETTLES_S)
            return {
                each.name: Outcome(each, self._side(each, "a"), self._side(each, "b"), self.stuck.get(each.name, ""))
                for each in self.group.scenarios
            }

    def _turn(self, now):
        words = {word for _, word in now}
        if "cut" in words:
            self.network.wire.cut()
        if "deaf" in words:
            self.network.wire.cut("b", "a")
        if "b: closes" in words:
            self.sides["b"].close()
        if "reload" in words:
            for who, gateway in self.sides.items():
                gateway.reload(configuration(self.group, who, later=True), self.files)
        for each, word in now:
            self._act(each, word)
        if "mend" in words:
            self.network.wire.mend()
        for each, word in now:
            try:
                self._await(each, word)
            except RigError as error:
                self.stuck[each.name] = f'stuck at "{word}": {error}'

    def _act(self, scenario, word):
        who, _, verb = word.partition(": ")
        name = self.names[scenario.name]
        for gateway in self.sides.values() if who == "both" else [self.sides[who]] if who in self.sides else []:
            match verb:
                case "rekey" | "initiate" | "terminate":
                    getattr(gateway, verb)(name)
                case "rekey ike":
                    gateway.rekey(name, ike=True)
                case "sends" | "sends long":
                    gateway.inject(self._packet(scenario, who, long=verb.endswith("long")))

    def _hosts(self, scenario, who):
        number, (mine, theirs) = self.numbers[scenario.name], (1, 2) if who == "a" else (2, 1)
        return f"10.{number}.{mine}.5", f"10.{number}.{theirs}.5"

    def _packet(self, scenario, who, *, long):
        source, destination = self._hosts(scenario, who)
        return udp_of_size(source, destination, LONG) if long else udp(source, destination, b"hello")

    def _await(self, scenario, word):
        who, _, what = word.partition(": ")
        name = self.names[scenario.name]
        a, b = self.sides["a"], self.sides["b"]
        if word == "up":
            for gateway in (a, b):
                gateway.wait("up", LATE_S, name)
        elif word in ("one", "three"):
            wanted = 1 if word == "one" else 3
            a.wait(lambda: all(len(gateway.sas(name)) == wanted for gateway in (a, b)), LATE_S)
        elif what == "hears":
            self.sides["b"].wait(lambda: self._cookies("b") > 0, LATE_S)
        elif who in self.sides and what == "gets":
            self.sides[who].wait(lambda: self._arrived(scenario, who), LATE_S)
        elif who in self.sides and what.startswith("is "):
            self.sides[who].wait(what[3:], LATE_S, name)
        elif who in self.sides and what in set(Kind):
            self.sides[who].wait(Kind(what), LATE_S, name)

    def _arrived(self, scenario, who):
        for packet in self.sides[who].received():
            self.got[str(ip_address(packet[16:20]))] += 1
        return self.got[self._hosts(scenario, who)[0]] > 0

    def _cookies(self, who):
        status = self.sides[who].status()
        return status.traffic.cookies_sent + status.ike_counters.get("cookies_sent", 0)

    def _side(self, scenario, who):
        gateway, name = self.sides[who], self.names[scenario.name]
        told = [each for each in gateway.events() if each.tunnel == name and each.kind not in NOT_COMPARED]
        events = tuple(f"{each.kind}{f' ({each.cause})' if each.cause else ''}" for each in told)
        if word_of_end(scenario, who):
            return Side("closed", events, ())
        if name not in {each.name for each in gateway.config.tunnels}:
            return Side("gone", events, ())
        status = gateway.tunnel(name)
        sas = (f"{each.suite} {','.join(each.local_ts)} <-> {','.join(each.remote_ts)}" for each in status.children)
        return Side(status.state, events, tuple(sas), cookies=self.group.crowd and self._cookies("b") > 0)


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario in one place; `stuck`: the step that did not happen, with the story."""

    scenario: Scenario
    a: Side
    b: Side
    stuck: str = ""

    @property
    def ends(self):
        states = "-" if self.scenario.first < ALL else f"{self.a.state}/{self.b.state}"
        return f"{states} {len(self.a.sas)}/{len(self.b.sas)}{' cookies' if self.a.cookies else ''}"

    @property
    def compared(self):
        """What is the same in both places: how it ends, events in their order, suites and selectors."""
        events = () if self.scenario.loose else tuple(side.events[: self.scenario.first] for side in (self.a, self.b))
        return self.stuck.partition(":")[0], self.ends, events, tuple(tuple(sorted(side.sas)) for side in (self.a, self.b))

    @property
    def as_meant(self):
        told = not self.scenario.told or any(self.scenario.told in event for side in (self.a, self.b) for event in side.events)
        return not self.stuck and self.ends == self.scenario.ends and told


def outcomes(place, files, groups=GROUPS, at_once=1):
    """By name of the scenario; so many groups at once."""
    with ThreadPoolExecutor(at_once) as several:
        met = several.map(lambda group: Meeting(place, group, files).run(), groups)
        return {name: outcome for group in met for name, outcome in group.items()}


def table(memory, netns):
    """One line for each scenario: how it ended in both places, and what both did."""
    lines = [f"{'scenario':34} {'in memory':26} {'in namespaces':26} events of a | of b"]
    for name, one in memory.items():
        other = netns[name]
        mark = "" if one.compared == other.compared else "   DIFFERS"
        events = " | ".join(", ".join(side.events[: min(one.scenario.first, SHOWN)]) for side in (one.a, one.b))
        lines.append(f"{name:34} {one.ends:26} {other.ends:26} {'' if one.scenario.loose else events}{mark}")
    same = sum(one.compared == netns[name].compared for name, one in memory.items())
    return "\n".join([*lines, f"{same} of {len(memory)} scenarios are the same in memory and in namespaces"])
