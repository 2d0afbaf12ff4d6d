"""PAN-OS: each IPsec tunnel with its IKE gateway, crypto profiles, tunnel interface and static routes becomes a tunnel."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from ipsec_dp.config import tables
from ipsec_dp.config.quantities import parse_identity, parse_interface_address
from ipsec_dp.config.resolve import check_name
from ipsec_dp.errors import BadValueError
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.migrate import algorithms, panos_words, reasons, strongswan
from ipsec_dp.migrate.draft import FileDraft, RouteDraft, Setting, SourceError, SourceLine, SourceText, TunnelDraft
from ipsec_dp.migrate.panos_tree import PanosNode, parse_panos
from ipsec_dp.migrate.secrets_of import SharedKey, give
from ipsec_dp.migrate.selector_texts import addresses_of, ports_of, protocol_of
from ipsec_dp.migrate.source_files import SourceFiles

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT: Final = "PAN-OS's default"
ENCRYPTED: Final = "-AQ=="  # what the firewall puts before a key that its master key encrypts
_UNITS: Final = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
_SIZES: Final = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")


def read_panos(path: Path, files: SourceFiles | None = None) -> FileDraft:
    """Set commands or an XML export. Raises SourceError."""
    files = SourceFiles() if files is None else files
    return of_tree(parse_panos(files.read(path), path.name))


def of_tree(root: PanosNode) -> FileDraft:
    """The draft of a parsed file."""
    draft = FileDraft("PAN-OS")
    networks = [node for node in root.everywhere("network") if node.below("tunnel", "ipsec") or node.below("ike")]
    if not networks:
        raise SourceError(root.at, "holds no network ike and no network tunnel ipsec: nothing of it is about VPNs")
    for system in root.everywhere("system"):
        name = system.text("hostname")
        if name:
            try:
                draft.gateway["name"] = Setting(check_name(name))
            except BadValueError as error:
                draft.note(system.at, f"hostname = {name}", error.wrong)
            break
    for network in networks:
        _Network(network, draft).translate()
    _zones(root, draft)
    return draft


def _zones(root: PanosNode, draft: FileDraft) -> None:
    used = {str(tunnel.settings["interface"].value) for tunnel in draft.tunnels if "interface" in tunnel.settings}
    for zones in root.everywhere("zone"):
        for zone in zones.children.values():
            if used & set(zone.values("network", "layer3")):
                draft.left_out(zone.at, f"zone {zone.name}", panos_words.ZONES)


class _Network:
    """One `network` of a firewall, or of a template."""

    def __init__(self, network: PanosNode, draft: FileDraft) -> None:
        self._network, self._draft = network, draft
        self._by_interface: dict[str, str] = {}  # the tunnel that an interface belongs to

    def translate(self) -> None:
        for node in self._network.each("tunnel", "ipsec"):
            self._tunnel(node)
        for kind in ("global-protect-gateway", "global-protect-site-to-site", "gre"):
            for node in self._network.each("tunnel", kind):
                self._draft.left_out(node.at, f"tunnel {kind} {node.name}", panos_words.OTHER_TUNNELS[kind])
        for routes in self._network.everywhere("static-route"):
            for route in routes.children.values():
                self._route(route)

    def _tunnel(self, node: PanosNode) -> None:
        tunnel = self._draft.tunnel(node.name, node.at)
        self._unknown(node, panos_words.TUNNEL)
        for word, why in panos_words.TUNNEL_LEFT_OUT.items():
            found = node.below(*word.split("/"))
            if found is not None and found.text() not in ("no", "tunnel"):
                self._draft.left_out(found.at, f"{node.name}: {word}", why)
                if word in panos_words.WITHHOLDING:
                    tunnel.withhold(f"line {found.at.line}: {word}: {why}")
        if node.text("anti-replay") == "no":
            self._draft.left_out(node.at, f"{node.name}: anti-replay no", "the anti-replay window cannot be switched off")
        if node.text("disabled") == "yes":
            tunnel.withhold("disabled = yes: the source does not use it")
        if any(node.below(word) for word in ("manual-key", "global-protect-satellite")):
            tunnel.put("remote", "any")
            return
        names = node.values("auto-key", "ike-gateway")
        gateway = self._network.below("ike", "gateway", names[0]) if names else None
        if gateway is None:
            self._draft.left_out(node.at, f"{node.name}: its IKE gateway", "is not in the source")
            tunnel.withhold("remote: the IKE gateway is not in the source")
            tunnel.put("remote", "any")
            return
        for more in names[1:]:
            self._draft.left_out(
                node.at, f"{node.name}: ike-gateway {more}", "a tunnel has one here; name its peers as a list in remote"
            )
        self._unknown(gateway, panos_words.GATEWAY)
        _Gateway(gateway, self._network, self._draft, tunnel).translate()
        self._interface(tunnel, node)
        self._phase2(tunnel, node)
        self._proxy_ids(tunnel, node)
        self._monitor(tunnel, node)

    def _unknown(self, node: PanosNode, known: frozenset[str]) -> None:
        for child in node.children.values():
            if child.name not in known:
                self._draft.left_out(child.at, f"{node.name}: {child.name}", "is not known here")

    def _interface(self, tunnel: TunnelDraft, node: PanosNode) -> None:
        name = node.text("tunnel-interface")
        if not name:
            return
        if _INTERFACE.fullmatch(name) is not None:
            tunnel.put("interface", name)
        self._by_interface.setdefault(name, tunnel.name)
        unit = self._network.below("interface", "tunnel", "units", name)
        if unit is None:
            return
        addresses = []
        for text in unit.values("ip"):
            try:
                addresses.append(str(parse_interface_address(text)))
            except BadValueError:
                self._draft.left_out(unit.at, f"interface {name}: ip {text}", panos_words.OBJECT)
        if addresses:
            tunnel.put("address", tuple(addresses))
        mtu = unit.text("mtu")
        if mtu.isdecimal() and len(mtu) < 6:
            tunnel.put("mtu", int(mtu))

    def _phase2(self, tunnel: TunnelDraft, node: PanosNode) -> None:
        tunnel.put(
            "dscp", "copy" if node.text("copy-tos") == "yes" else 0, "" if node.below("copy-tos") else f"{DEFAULT}: copy-tos no"
        )
        name = node.text("auto-key", "ipsec-crypto-profile", default="default")
        profile = self._network.below("ike", "crypto-profiles", "ipsec-crypto-profiles", name)
        whose = f"profile {name}"
        if profile is None:
            if name not in panos_words.IPSEC_PROFILES:
                self._draft.left_out(node.at, f"{tunnel.name}: {whose}", "is not in the source")
                tunnel.withhold(f"esp: {whose} is not in the source")
                return
            encryption, hashes, groups, seconds, whose = *panos_words.IPSEC_PROFILES[name], f"{DEFAULT}: profile {name}"
            at = node.at
        else:
            at = profile.at
            if profile.below("ah") is not None:
                self._draft.left_out(at, whose, reasons.AH)
                tunnel.withhold(f"line {at.line}: {whose}: {reasons.AH}")
            encryption, hashes = profile.values("esp", "encryption"), profile.values("esp", "authentication")
            groups = profile.values("dh-group") or ["group2"]
            seconds = _seconds(profile, 3600)
            octets = _octets(profile)
            if octets:
                tunnel.put("esp.life_octets", octets)
        made = algorithms.of_panos(encryption, hashes, [word for word in groups if word != "no-pfs"], parse_esp)
        made = algorithms.Translated(tuple(f"{text}-noesn" for text in made.proposals), made.lost, made.legacy)
        strongswan.put_translated(tunnel, self._draft, "esp", made, SourceText(name, at), whose)
        tunnel.put("esp.lifetime", strongswan.duration(seconds))
        window = node.below("anti-replay-window")
        value = SourceText(window.text(), window.at) if window is not None else None
        strongswan.put_window(tunnel, self._draft, value, panos_words.WINDOW, DEFAULT)

    def _proxy_ids(self, tunnel: TunnelDraft, node: PanosNode) -> None:
        found = [*node.each("auto-key", "proxy-id"), *node.each("auto-key", "proxy-id-v6")]
        if not found:
            tunnel.proxy_ids.append(tables.ProxyId(local="0.0.0.0/0", remote="0.0.0.0/0"))
            return
        for one in found:
            try:
                tunnel.proxy_ids.append(_proxy_id(one))
            except BadValueError as error:
                self._draft.left_out(one.at, f"{tunnel.name}: proxy-id {one.name}", f"{error.wrong}; {error.right}")
                tunnel.withhold(f"line {one.at.line}: proxy-id {one.name}: {error.wrong}")

    def _monitor(self, tunnel: TunnelDraft, node: PanosNode) -> None:
        monitor = node.below("tunnel-monitor")
        if monitor is None or monitor.text("enable") != "yes":
            return
        tunnel.put("monitor.target", monitor.text("destination-ip"))
        name = monitor.text("tunnel-monitor-profile", default="default")
        profile = self._network.below("profiles", "monitor-profile", name)
        if profile is None:
            tunnel.put("monitor.action", "wait-recover", f"{DEFAULT}: profile {name}")
            return
        tunnel.put("monitor.interval", f"{_number(profile.text('interval'), 3)}s")
        tunnel.put("monitor.threshold", _number(profile.text("threshold"), 5))
        tunnel.put("monitor.action", "fail-over" if profile.text("action") == "fail-over" else "wait-recover")

    def _route(self, route: PanosNode) -> None:
        name = self._by_interface.get(route.text("interface"))
        if name is None:
            return
        try:
            prefix = addresses_of(route.text("destination"))
        except BadValueError as error:
            self._draft.left_out(route.at, f"static-route {route.name}", f"{error.wrong}; {error.right}")
            return
        self._draft.routes.append(RouteDraft(prefix or "", name, max(1, _number(route.text("metric"), 10))))


class _Gateway:
    """One IKE gateway, for one tunnel."""

    def __init__(self, gateway: PanosNode, network: PanosNode, draft: FileDraft, tunnel: TunnelDraft) -> None:
        self._gateway, self._network, self._draft, self._tunnel = gateway, network, draft, tunnel

    def translate(self) -> None:
        for word, why in panos_words.GATEWAY_LEFT_OUT.items():
            found = self._gateway.below(*word.split("/"))
            if found is not None and found.text() != "no":
                self._draft.left_out(found.at, f"gateway {self._gateway.name}: {word}", why)
        if self._gateway.text("disabled") == "yes":
            self._tunnel.withhold(f"gateway {self._gateway.name}: disabled = yes: the source does not use it")
        self._ends()
        passive = self._gateway.text("protocol-common", "passive-mode") == "yes"
        self._tunnel.put("start", "respond" if passive else "on-demand", "" if passive else f"{DEFAULT}: with traffic")
        if self._gateway.text("protocol-common", "nat-traversal", "enable") != "yes":
            self._tunnel.put("encapsulation", "esp", f"{DEFAULT}: no NAT traversal")
        for side, key in (("local-id", "local_id"), ("peer-id", "remote_id")):
            self._identity(side, key)
        self._authentication()
        self._phase1()

    def _ends(self) -> None:
        peer = self._gateway.below("peer-address")
        text = "%any" if peer is None or peer.below("dynamic") else peer.text("ip") or peer.text("fqdn") or "%any"
        at = self._gateway.at if peer is None else peer.at
        strongswan.put_remote(self._tunnel, self._draft, [text], SourceText(text, at))
        local = self._gateway.below("local-address")
        if local is None:
            return
        address = local.text("ip") or local.text("floating-ip")
        if address:
            strongswan.put_local(self._tunnel, self._draft, SourceText(address.partition("/")[0], local.at))
        else:
            self._draft.note(local.at, f"local-address {local.text('interface')}", "our address follows the route to the peer")

    def _identity(self, side: str, key: str) -> None:
        node = self._gateway.below(side)
        if node is None:
            return
        kind, text = node.text("type"), node.text("id")
        if node.text("matching") == "wildcard":
            self._draft.left_out(
                node.at, f"gateway {self._gateway.name}: {side} matching wildcard", "a pattern, which nobody fits here"
            )
            self._tunnel.withhold(f"line {node.at.line}: auth.{key}: a pattern")
            return
        try:
            self._tunnel.put(f"auth.{key}", parse_identity(panos_words.IDENTITIES.get(kind, "{}").format(text)))
        except BadValueError as error:
            self._draft.left_out(node.at, f"gateway {self._gateway.name}: {side}", f"{error.wrong}; {error.right}")
            self._tunnel.withhold(f"line {node.at.line}: auth.{key}: {error.wrong}")

    def _authentication(self) -> None:
        certificate = self._gateway.below("authentication", "certificate")
        if certificate is not None:
            self._certificate(certificate)
            return
        key = self._gateway.below("authentication", "pre-shared-key", "key")
        text = "" if key is None else key.text()
        at = self._gateway.at if key is None else key.at
        file = f"{self._tunnel.name}.psk"
        if text.startswith(ENCRYPTED) or not text:
            why = reasons.ENCRYPTED_KEY if text else "is not in the source: to be filled in"
            self._draft.left_out(at, f"gateway {self._gateway.name}: its pre-shared key", f"{why} ({file})")
            self._tunnel.put("auth.psk_file", file, "to be filled in")
            return
        give(self._tunnel, SharedKey(at, (), text, literal=True))

    def _certificate(self, certificate: PanosNode) -> None:
        local = certificate.below("local-certificate")
        name = "" if local is None else local.text("name") or local.text()
        profile = certificate.text("certificate-profile") or f"{self._tunnel.name}-ca"
        self._draft.left_out(certificate.at, f"gateway {self._gateway.name}: certificate {name}", panos_words.EXPORT)
        self._tunnel.put("auth.certificate", f"{name or self._tunnel.name}.pem", "to be exported from the firewall")
        self._tunnel.put("auth.private_key", f"{name or self._tunnel.name}.key")
        self._tunnel.put("auth.ca", (f"{profile}.pem",), "the authorities of the certificate profile")

    def _phase1(self) -> None:
        version = self._gateway.text("protocol", "version", default="ikev1")
        comment = "" if self._gateway.below("protocol", "version") else DEFAULT
        ours = panos_words.VERSIONS.get(version, "1")
        self._tunnel.put("ike.version", ours, comment)
        protocol = self._gateway.below("protocol", "ikev1" if ours == "1" else "ikev2") or PanosNode("", self._gateway.at)
        mode = protocol.text("exchange-mode", default="auto")
        if ours == "1" and mode == "aggressive":
            self._tunnel.put("ike.mode", "aggressive")
        name = protocol.text("ike-crypto-profile", default="default")
        self._profile(name, protocol.at)
        liveness = protocol.below("dpd") or PanosNode("", protocol.at)
        asks = liveness.text("enable", default="yes") != "no"
        interval = _number(liveness.text("interval"), 5) if asks else 0
        value: dict[str, str | int | bool] = {"interval": f"{interval}s", "action": "trap"}
        if ours == "1":
            value["retries"] = min(max(_number(liveness.text("retry"), 5), 1), 100)
        self._tunnel.put("ike.liveness", value, "" if liveness.children else DEFAULT)

    def _profile(self, name: str, at: SourceLine) -> None:
        profile = self._network.below("ike", "crypto-profiles", "ike-crypto-profiles", name)
        if profile is None and name not in panos_words.IKE_PROFILES:
            self._draft.left_out(at, f"gateway {self._gateway.name}: profile {name}", "is not in the source")
            self._tunnel.withhold(f"ike: profile {name} is not in the source")
            return
        if profile is None:
            encryption, hashes, groups, seconds = panos_words.IKE_PROFILES[name]
            whose = f"{DEFAULT}: profile {name}"
        else:
            encryption, hashes, groups = (profile.values(word) for word in ("encryption", "hash", "dh-group"))
            seconds, whose, at = _seconds(profile, 8 * 3600), f"profile {name}", profile.at
            if profile.text("authentication-multiple", default="0") != "0":
                self._draft.left_out(at, f"{whose}: authentication-multiple", "write [tunnel.ike] reauth_after")
        made = algorithms.of_panos(encryption, hashes, groups, parse_ike)
        strongswan.put_translated(self._tunnel, self._draft, "ike", made, SourceText(name, at), whose)
        self._tunnel.put("ike.lifetime", strongswan.duration(seconds))


def _proxy_id(node: PanosNode) -> tables.ProxyId:
    protocol = node.below("protocol")
    kind = "any" if protocol is None else protocol.text(default="any")
    number = "" if protocol is None else protocol.text("number")
    ports = {side: "" if protocol is None else protocol.text(kind, f"{side}-port") for side in ("local", "remote")}
    return tables.ProxyId(
        local=_end(node, "local"),
        remote=_end(node, "remote"),
        protocol=protocol_of(number or kind),
        local_ports=ports_of(ports["local"]),
        remote_ports=ports_of(ports["remote"]),
    )


def _end(node: PanosNode, side: str) -> str:
    text = node.text(side, default="0.0.0.0/0")
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise BadValueError(f'{side} "{text}" is no prefix', panos_words.OBJECT) from None


def _number(text: str, default: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 9 else default


def _seconds(profile: PanosNode, default: int) -> int:
    """`lifetime hours 8` and the like."""
    for unit, seconds in _UNITS.items():
        number = _number(profile.text("lifetime", unit), 0)
        if number:
            return number * seconds
    return default


def _octets(profile: PanosNode) -> int:
    return next(
        (_number(profile.text("lifesize", unit), 0) * size for unit, size in _SIZES.items() if profile.text("lifesize", unit)), 0
    )
