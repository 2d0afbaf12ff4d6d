"""swanctl.conf: a connection with its children becomes a tunnel; children with other settings become tunnels beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipsec_dp.errors import BadValueError
from ipsec_dp.migrate import reasons, strongswan
from ipsec_dp.migrate.certificate_files import CertificateFiles, put_certificates
from ipsec_dp.migrate.draft import FileDraft, SourceText, TunnelDraft
from ipsec_dp.migrate.secrets_of import SharedKey, give, key_for
from ipsec_dp.migrate.selector_texts import one_side, proxy_ids
from ipsec_dp.migrate.settings_format import SettingsSection, parse_settings
from ipsec_dp.migrate.source_files import SourceFiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What is read of a connection; and what of it has no counterpart, with why.
CONNECTION: Final = frozenset(
    """version local_addrs remote_addrs local_port remote_port proposals aggressive encap dpd_delay unique reauth_time rekey_time
    over_time rand_time""".split()
)
CONNECTION_LEFT_OUT: Final[dict[str, str]] = {
    "vips": reasons.VIRTUAL_IP,
    "pools": reasons.VIRTUAL_IP,
    "pull": reasons.XAUTH,
    "dscp": "the DSCP of IKE messages is not set",
    "mobike": reasons.MOBIKE,
    "dpd_timeout": "liveness counts questions, [tunnel.ike] liveness retries",
    "fragmentation": "IKE messages go in fragments where the peer takes them, [tunnel.ike] fragment_size",
    "childless": "an IKE SA is made with its first CHILD_SA",
    "send_certreq": reasons.CERTIFICATE_REQUEST,
    "send_cert": reasons.CERTIFICATE_REQUEST,
    "ppk_id": reasons.PPK,
    "ppk_required": reasons.PPK,
    "keyingtries": reasons.TRIES,
    "if_id_in": reasons.INTERFACE,
    "if_id_out": reasons.INTERFACE,
    "mediation": reasons.MEDIATION,
    "mediated_by": reasons.MEDIATION,
    "mediation_peer": reasons.MEDIATION,
    "ocsp": reasons.REVOCATION,
    "alloc_mem": reasons.DAEMON,
}
ROUND: Final = frozenset("auth id certs cacerts revocation round".split())
ROUND_LEFT_OUT: Final[dict[str, str]] = {
    "eap_id": reasons.EAP,
    "aaa_id": reasons.EAP,
    "xauth_id": reasons.XAUTH,
    "groups": "groups of peers are not there yet",
    "cert_policy": "the policies of certificates are not chosen here",
    "ca_id": "an authority is named by its file, [tunnel.auth] ca",
    "pubkeys": reasons.RAW_KEY,
}
CHILD: Final = frozenset(
    """esp_proposals local_ts remote_ts rekey_time life_time rand_time rekey_bytes life_bytes rekey_packets life_packets mode
    dpd_action inactivity replay_window copy_df copy_ecn copy_dscp start_action""".split()
)
CHILD_LEFT_OUT: Final[dict[str, str]] = {
    "ah_proposals": reasons.AH,
    "sha256_96": "SHA-256 cut to 96 bits is not there",
    "rand_bytes": reasons.FUZZ,
    "rand_packets": reasons.FUZZ,
    "updown": reasons.HOOK,
    "hostaccess": reasons.FIREWALL,
    "policies": reasons.KERNEL_POLICY,
    "policies_fwd_out": reasons.KERNEL_POLICY,
    "priority": reasons.KERNEL_POLICY,
    "reqid": reasons.KERNEL_POLICY,
    "interface": reasons.KERNEL_POLICY,
    "ipcomp": reasons.COMPRESSION,
    "close_action": 'what the peer closes is asked for again where start = "start"',
    "label": reasons.LABEL,
    "label_mode": reasons.LABEL,
    "tfc_padding": reasons.PADDING,
    "hw_offload": reasons.HARDWARE,
    "per_cpu_sas": "[gateway] workers says how many there are, for all tunnels",
    **dict.fromkeys("mark_in mark_in_sa mark_out set_mark_in set_mark_out".split(), reasons.MARK),
    **dict.fromkeys("if_id_in if_id_out".split(), reasons.INTERFACE),
}
SECRETS_LEFT_OUT: Final = {
    "eap": reasons.EAP,
    "ntlm": reasons.EAP,
    "xauth": reasons.XAUTH,
    "ppk": reasons.PPK,
    "pkcs12": "keys and certificates are PEM files: openssl pkcs12 -in FILE -nodes",
    "token": "keys in tokens are not used",
}
TOP_LEFT_OUT: Final = {"pools": reasons.VIRTUAL_IP, "authorities": reasons.REVOCATION}
START: Final = {"none": "respond", "trap": "on-demand", "start": "start", "trap|start": "start", "start|trap": "start"}
DPD: Final = {"clear": "clear", "none": "clear", "trap": "trap", "restart": "restart", "start": "restart"}
UNIQUE: Final = {"never": "never", "keep": "keep", "replace": "replace", "no": "replace"}
VERSIONS: Final = {"0": "2", "1": "1", "2": "2"}
IKE_REKEY_S, CHILD_REKEY_S, WINDOW = 4 * 3600, 3600, 32  # strongSwan's defaults


@dataclass(frozen=True, slots=True)
class AuthenticationRound:
    """One `local` or `remote` section."""

    path: str
    section: SettingsSection


def read_swanctl(path: Path, files: SourceFiles | None = None) -> FileDraft:
    """The file with what it includes. Raises SourceError."""
    files = SourceFiles() if files is None else files
    return of_settings(parse_settings(files.read(path), path, files), CertificateFiles.of_swanctl(path.parent))


def of_settings(root: SettingsSection, beside: CertificateFiles) -> FileDraft:
    """The draft of a parsed file."""
    draft = FileDraft("swanctl.conf")
    keys = _secrets(root.below("secrets"), draft)
    for key, value in root.values.items():
        draft.left_out(value.at, key, "is in no section")
    for name, section in root.sections.items():
        if name in TOP_LEFT_OUT:
            for below in section.sections.values():
                draft.left_out(below.at, f"{name}.{below.name}", TOP_LEFT_OUT[name])
        elif name not in ("connections", "secrets") and not _is_template(section):
            draft.left_out(section.at, name, "is no section of swanctl.conf that is known here")
    for connection in root.below("connections").sections.values():
        _Connection(connection, draft, keys, beside).translate()
    return draft


def _is_template(section: SettingsSection) -> bool:
    """A section beside the known ones, which others refer to: what it says stands where they take it over."""
    return bool(section.values or section.sections)


def _secrets(section: SettingsSection, draft: FileDraft) -> list[SharedKey]:
    keys = []
    for name, secret in section.sections.items():
        if name.startswith("ike"):
            identities = tuple(value.text for key, value in secret.values.items() if key.startswith("id"))
            found = secret.values.get("secret")
            if found is not None and found.text:
                keys.append(SharedKey(found.at, identities, found.text))
            continue
        why = next((why for prefix, why in SECRETS_LEFT_OUT.items() if name.startswith(prefix)), None)
        if why is not None:
            draft.left_out(secret.at, f"secrets.{name}", why)
        elif "secret" in secret.values:
            draft.left_out(secret.values["secret"].at, f"secrets.{name}.secret", "keys are not encrypted: openssl pkey -in FILE")
    return keys


class _Connection:
    """One connection on its way to a tunnel or several."""

    def __init__(self, section: SettingsSection, draft: FileDraft, keys: list[SharedKey], beside: CertificateFiles) -> None:
        self._section, self._draft, self._keys, self._beside = section, draft, keys, beside
        self._path = f"connections.{section.name}"
        self._rounds = {side: self._rounds_of(side) for side in ("local", "remote")}

    def _rounds_of(self, side: str) -> list[AuthenticationRound]:
        found = [each for name, each in self._section.sections.items() if name.startswith(side)]
        return [AuthenticationRound(f"{self._path}.{each.name}", each) for each in found]

    def translate(self) -> None:
        self._remark(self._section.values, CONNECTION, CONNECTION_LEFT_OUT, self._path)
        for rounds in self._rounds.values():
            for each in rounds:
                self._remark(each.section.values, ROUND, ROUND_LEFT_OUT, each.path)
        children = list(self._section.below("children").sections.values())
        if not children:
            self._draft.left_out(self._section.at, self._path, "has no children, so it protects nothing")
            return
        groups: list[tuple[dict[str, object], TunnelDraft]] = []
        for child in children:
            path = f"{self._path}.children.{child.name}"
            self._remark(child.values, CHILD, CHILD_LEFT_OUT, path)
            trial = TunnelDraft(child.name, child.at)
            self._child(trial, child)
            same = next((made for settings, made in groups if settings == trial.settings), None)
            if same is None:
                same = self._tunnel(child, trial, beside=[made for _, made in groups])
                groups.append((dict(trial.settings), same))
            self._selectors(same, child, path)

    def _remark(self, values: Mapping[str, SourceText], known: frozenset[str], reasons_of: Mapping[str, str], path: str) -> None:
        self._draft.leave_out_known(values, reasons_of, f"{path}.")
        for key, value in values.items():
            if key not in known and key not in reasons_of:
                self._draft.left_out(value.at, f"{path}.{key}", "is not known here")

    def _tunnel(self, child: SettingsSection, trial: TunnelDraft, beside: list[TunnelDraft]) -> TunnelDraft:
        name = f"{self._section.name}-{child.name}" if beside else self._section.name
        tunnel = self._draft.tunnel(name, child.at if beside else self._section.at)
        self._ends(tunnel)
        tunnel.settings |= {key: value for key, value in trial.settings.items() if "." not in key}
        for why in trial.withheld:
            tunnel.withhold(why)
        self._authentication(tunnel)
        self._ike(tunnel)
        tunnel.settings |= {key: value for key, value in trial.settings.items() if "." in key}
        if beside:
            self._draft.note(child.at, f"{self._path}.children.{child.name}", reasons.SPLIT)
            for each in (*beside, tunnel):
                each.put("auth.unique", "never", "several tunnels to one peer")
        return tunnel

    def _ends(self, tunnel: TunnelDraft) -> None:
        remote = self._section.values.get("remote_addrs") or SourceText("%any", self._section.at)
        words = [word for word in remote.text.split(",") if word.strip()] or ["%any"]
        strongswan.put_remote(tunnel, self._draft, words, remote)
        local = self._section.values.get("local_addrs")
        if local is not None:
            strongswan.put_local(tunnel, self._draft, local)
        if self._section.text("encap") == "yes":
            tunnel.put("encapsulation", "udp")
        for key in ("local_port", "remote_port"):
            port = self._section.values.get(key)
            if port is None or port.text in ("500", "0"):
                continue
            if key == "remote_port" and port.text == "4500":
                tunnel.put("ike.port", 4500)
            elif port.text != "4500":
                self._draft.left_out(port.at, f"{self._path}.{key} = {port.text}", "IKE uses ports 500 and 4500")
                tunnel.withhold(f"line {port.at.line}: {key}: IKE uses ports 500 and 4500")

    def _authentication(self, tunnel: TunnelDraft) -> None:
        for side, rounds in self._rounds.items():
            for more in rounds[1:]:
                self._draft.left_out(more.section.at, more.path, reasons.ROUNDS)
                tunnel.withhold(f"line {more.section.at.line}: {side}: {reasons.ROUNDS}")
        ours, theirs = (self._first(side) for side in ("local", "remote"))
        strongswan.put_identity(tunnel, self._draft, "local_id", ours.values.get("id"))
        strongswan.put_identity(tunnel, self._draft, "remote_id", theirs.values.get("id"))
        kind, why = strongswan.authentication(ours.text("auth", "pubkey"), theirs.text("auth", "pubkey"))
        if why:
            at = (theirs.values.get("auth") or ours.values.get("auth") or SourceText("", self._section.at)).at
            self._draft.left_out(at, f"{self._path}: authentication", why)
            tunnel.withhold(f"line {at.line}: auth: {why}")
        if kind == "psk":
            self._shared_key(tunnel, ours, theirs)
        elif kind == "certificate":
            put_certificates(tunnel, self._draft, self._beside, (ours.text("certs"), theirs.text("certs"), theirs.text("cacerts")))
            self._revocation(tunnel, theirs)
        unique = self._section.values.get("unique")
        if unique is not None and unique.text in UNIQUE:
            tunnel.put("auth.unique", UNIQUE[unique.text])

    def _revocation(self, tunnel: TunnelDraft, theirs: SettingsSection) -> None:
        value = theirs.values.get("revocation")
        strict = value is not None and value.text == "strict"
        if value is not None and value.text == "ifuri":
            self._draft.left_out(value.at, f"{self._path}: revocation = ifuri", f"{reasons.REVOCATION}; if-present stands")
        comment = f"{strongswan.DEFAULT}: relaxed" if value is None else ""
        tunnel.put("auth.revocation", "strict" if strict else "if-present", comment)

    def _first(self, side: str) -> SettingsSection:
        rounds = self._rounds[side]
        return rounds[0].section if rounds else SettingsSection(side, self._section.at)

    def _shared_key(self, tunnel: TunnelDraft, ours: SettingsSection, theirs: SettingsSection) -> None:
        local = (ours.text("id"), *self._section.text("local_addrs").split(","))
        remote = (theirs.text("id"), *self._section.text("remote_addrs").split(","))
        key = key_for(self._keys, filter(None, local), filter(None, remote))
        if key is None:
            self._draft.left_out(
                self._section.at, f"{self._path}: its shared key", "stands in no secrets of the source: to be filled in"
            )
            tunnel.put("auth.psk_file", f"{tunnel.name}.psk", "to be filled in")
        else:
            give(tunnel, key)

    def _time(self, section: SettingsSection, key: str, default: int) -> int:
        value = section.values.get(key)
        return default if value is None else strongswan.seconds_of(value, self._draft, default)

    def _ike(self, tunnel: TunnelDraft) -> None:
        version = self._section.values.get("version")
        ours = VERSIONS.get(self._section.text("version", "0"), "2")
        if ours == "1":
            tunnel.put("ike.version", "1")
        elif version is None or version.text == "0":
            tunnel.put("ike.version", "2", f"{strongswan.DEFAULT} calls by IKEv2, and takes IKEv1 too")
        if self._section.text("aggressive") == "yes" and ours == "1":
            tunnel.put("ike.mode", "aggressive")
        strongswan.put_proposals(tunnel, self._draft, "ike", self._section.values.get("proposals"))
        rekey = self._time(self._section, "rekey_time", IKE_REKEY_S)
        reauth = self._time(self._section, "reauth_time", 0)
        over = self._time(self._section, "over_time", max(rekey, reauth) // 10)
        given = any(key in self._section.values for key in ("rekey_time", "reauth_time"))
        strongswan.put_lifetime(tunnel, "ike", rekey or reauth, (rekey or reauth) + over, "" if given else strongswan.DEFAULT)
        if reauth:
            tunnel.put("ike.reauth_after", strongswan.duration(reauth))

    def _child(self, tunnel: TunnelDraft, child: SettingsSection) -> None:
        """What all children of one tunnel have in common."""
        if self._section.text("version") == "1":
            tunnel.put("ike.version", "1")
        if child.text("mode", "tunnel") != "tunnel":
            at = child.values["mode"].at
            self._draft.left_out(at, f"{self._path}.children.{child.name}.mode = {child.text('mode')}", reasons.TRANSPORT)
            tunnel.withhold(f"line {at.line}: mode: {reasons.TRANSPORT}")
        if "ah_proposals" in child.values and "esp_proposals" not in child.values:
            tunnel.withhold(f"line {child.values['ah_proposals'].at.line}: ah_proposals: {reasons.AH}")
        action = child.text("start_action", "none")
        comment = "" if "start_action" in child.values else strongswan.DEFAULT
        tunnel.put("start", START.get(action, "respond"), comment)
        self._headers(tunnel, child)
        self._liveness(tunnel, child)
        strongswan.put_proposals(tunnel, self._draft, "esp", child.values.get("esp_proposals"))
        rekey = self._time(child, "rekey_time", CHILD_REKEY_S)
        given = "rekey_time" in child.values or "life_time" in child.values
        life = self._time(child, "life_time", rekey + rekey // 10)
        strongswan.put_lifetime(tunnel, "esp", rekey, life, "" if given else strongswan.DEFAULT)
        self._volume(tunnel, child)
        idle = self._time(child, "inactivity", 0)
        if idle:
            tunnel.put("esp.idle_timeout", strongswan.duration(idle))
        strongswan.put_window(tunnel, self._draft, child.values.get("replay_window"), WINDOW, strongswan.DEFAULT)

    def _volume(self, tunnel: TunnelDraft, child: SettingsSection) -> None:
        for ours, keys in (
            ("esp.life_octets", ("life_bytes", "rekey_bytes")),
            ("esp.life_packets", ("life_packets", "rekey_packets")),
        ):
            value = next((child.values[key] for key in keys if key in child.values), None)
            if value is not None and value.text.isdecimal() and len(value.text) < 18:
                tunnel.put(ours, int(value.text))

    def _headers(self, tunnel: TunnelDraft, child: SettingsSection) -> None:
        if child.text("copy_df") == "no":
            tunnel.put("df", "clear")
        if child.text("copy_ecn") == "no":
            tunnel.put("ecn", "compatibility")
        dscp = child.text("copy_dscp", "out")
        if dscp in ("no", "in"):
            tunnel.put("dscp", 0)
        if dscp in ("yes", "in"):
            tunnel.put("dscp_in", "copy")

    def _liveness(self, tunnel: TunnelDraft, child: SettingsSection) -> None:
        delay = self._time(self._section, "dpd_delay", 0)
        action = DPD.get(child.text("dpd_action", "clear"), "clear")
        comment = "" if "dpd_delay" in self._section.values else f"{strongswan.DEFAULT}: no checks"
        tunnel.put("ike.liveness", {"interval": strongswan.duration(delay), "action": action}, comment)

    def _selectors(self, tunnel: TunnelDraft, child: SettingsSection, path: str) -> None:
        local, remote = tunnel.settings.get("local"), tunnel.settings["remote"].value
        ends = (
            str(local.value) if local is not None else None,
            remote if isinstance(remote, str) and _is_address(remote) else None,
        )
        value = child.values.get("remote_ts") or child.values.get("local_ts") or SourceText("dynamic", child.at)
        try:
            ours = [one_side(text, ends[0]) for text in _listed(child.text("local_ts", "dynamic"))]
            theirs = [one_side(text, ends[1]) for text in _listed(child.text("remote_ts", "dynamic"))]
            made = proxy_ids(ours, theirs)
        except BadValueError as error:
            self._draft.left_out(value.at, f"{path}: traffic selectors", f"{error.wrong}; {error.right}")
            tunnel.withhold(f"line {value.at.line}: proxy_id: {error.wrong}")
            return
        tunnel.proxy_ids += (each for each in made if each not in tunnel.proxy_ids)


def _is_address(text: str) -> bool:
    return text != "any" and (":" in text or text.replace(".", "").isdecimal())


def _listed(text: str) -> Iterable[str]:
    return [part for part in text.split(",") if part.strip()] or ["dynamic"]
