"""ipsec.conf of strongSwan and of Libreswan, with the ipsec.secrets beside it: each `conn` that is loaded becomes a tunnel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ipsec_dp.config.quantities import parse_address
from ipsec_dp.errors import BadValueError
from ipsec_dp.ike.proposal import parse_esp, parse_ike
from ipsec_dp.migrate import algorithms, ipsec_conf_words, reasons, strongswan
from ipsec_dp.migrate.certificate_files import CertificateFiles, put_certificates
from ipsec_dp.migrate.draft import FileDraft, Plain, SourceLine, SourceText, TunnelDraft
from ipsec_dp.migrate.ipsec_conf_format import ConfFile, ConfSection, SecretsFile, parse_conf, parse_secrets
from ipsec_dp.migrate.ipsec_conf_words import Dialect
from ipsec_dp.migrate.secrets_of import give, key_for
from ipsec_dp.migrate.selector_texts import OneSide, one_side, ports_of, protocol_of, proxy_ids
from ipsec_dp.migrate.source_files import SourceFiles

SIDES: Final = {"left": "right", "right": "left"}
NAMES: Final = {"strongswan": "strongSwan", "libreswan": "Libreswan"}
# Defaults: strongSwan's ipsec.conf(5), Libreswan's ipsec.conf(5), in seconds and packets.
STRONGSWAN_IKE_S, STRONGSWAN_ESP_S, MARGIN_S, STRONGSWAN_DELAY_S, STRONGSWAN_WINDOW = 3 * 3600, 3600, 540, 30, 32
LIBRESWAN_LIFE_S, LIBRESWAN_WINDOW = 8 * 3600, 128


def read_ipsec_conf(path: Path, files: SourceFiles | None = None, dialect: Dialect | None = None, local: str = "left") -> FileDraft:
    """The file with what it includes, and ipsec.secrets beside it. `local`: the side that is this host. Raises SourceError."""
    files = SourceFiles() if files is None else files
    conf = parse_conf(files.read(path), path, files)
    beside = path.with_name("ipsec.secrets")
    secrets = parse_secrets(files.read(beside), beside, files) if beside.is_file() else SecretsFile()
    return of_conf(conf, secrets, CertificateFiles.of_ipsec_d(path.parent), dialect, local)


def dialect_of(conf: ConfFile) -> Dialect:
    """Whose file it is, by the words that only Libreswan has."""
    for section in conf.sections.values():
        words = ipsec_conf_words.LIBRESWAN_SETUP if section.kind == "config" else ipsec_conf_words.LIBRESWAN_KEYS
        for key, value in section.values.items():
            if key in words or value.text in ipsec_conf_words.LIBRESWAN_VALUES.get(key, ()):
                return "libreswan"
            if key in ("ike", "esp") and ipsec_conf_words.LIBRESWAN_PROPOSAL.search(value.text):
                return "libreswan"
    return "strongswan"


def of_conf(
    conf: ConfFile, secrets: SecretsFile, beside: CertificateFiles, dialect: Dialect | None = None, local: str = "left"
) -> FileDraft:
    """The draft of a parsed file."""
    whose = dialect_of(conf) if dialect is None else dialect
    draft = FileDraft(f"ipsec.conf of {NAMES[whose]}")
    setup: dict[str, str] = {}
    for section in conf.of_kind("config"):
        for key, value in section.values.items():
            setup[key] = value.text
            if value.text not in ipsec_conf_words.SETUP.get(key, ()):
                draft.left_out(value.at, f"{key} = {value.text}", reasons.DAEMON)
    for section in conf.of_kind("ca"):
        draft.left_out(section.at, f"ca {section.name}", reasons.REVOCATION)
    for other in secrets.others:
        why = (
            reasons.EAP
            if other.text in ("EAP", "NTLM")
            else reasons.XAUTH
            if other.text == "XAUTH"
            else "is no kind of secret here"
        )
        draft.left_out(other.at, other.text, why)
    taken_over = {also.text for section in conf.of_kind("conn") for also in section.also}
    for section in conf.of_kind("conn"):
        if section.name != "%default":
            _Conn(conf, section, draft, secrets, beside, whose, setup).translate(local, template=section.name in taken_over)
    return draft


class _Conn:
    """One `conn` on its way to a tunnel. Keys of the sides are read as ours and theirs."""

    def __init__(
        self,
        conf: ConfFile,
        section: ConfSection,
        draft: FileDraft,
        secrets: SecretsFile,
        beside: CertificateFiles,
        dialect: Dialect,
        setup: dict[str, str],
    ) -> None:
        self._setup = setup
        self._section, self._draft, self._secrets, self._beside = section, draft, secrets, beside
        self._dialect, self._name = dialect, NAMES[dialect]
        self._values = conf.whole(section)
        self._ours, self._theirs = "left", "right"

    def translate(self, local: str, *, template: bool) -> None:
        self._ours = "right" if self._text("right") == "%defaultroute" and self._text("left") != "%defaultroute" else local
        self._theirs = SIDES[self._ours]
        auto = self._text("auto", "ignore")
        if auto == "ignore" and (template or not self._text(self._theirs)):
            self._draft.note(
                self._section.at, f"conn {self._section.name}", "a template: its keys stand where others take them over"
            )
            return
        kind = self._values.get("type")
        why = ipsec_conf_words.TYPES.get(self._text("type"))
        if why == reasons.POLICIES and kind is not None:
            self._draft.left_out(kind.at, f"conn {self._section.name}: type = {kind.text}", why)
            return
        tunnel = self._draft.tunnel(self._section.name, self._section.at)
        self._remarks(tunnel)
        if why is not None and kind is not None:
            self._refuse(tunnel, kind.at, f"type = {kind.text}", why)
        if auto not in ipsec_conf_words.START:
            tunnel.withhold(f"auto = {auto}: the source does not load it")
        tunnel.put("start", ipsec_conf_words.START.get(auto, "respond"))
        self._ends(tunnel)
        self._authentication(tunnel)
        self._phases(tunnel)
        self._liveness(tunnel)
        self._selectors(tunnel)

    def _text(self, key: str, default: str = "") -> str:
        value = self._values.get(key)
        return default if value is None else value.text

    def _side(self, side: str, key: str) -> SourceText | None:
        return self._values.get(f"{side}{key}")

    def _time(self, *keys: str, default: int) -> int:
        value = next((self._values[key] for key in keys if key in self._values), None)
        return default if value is None else strongswan.seconds_of(value, self._draft, default)

    def _refuse(self, tunnel: TunnelDraft, at: SourceLine, what: str, why: str) -> None:
        """A thing without which the rest of the tunnel would mean something else."""
        self._draft.left_out(at, f"conn {self._section.name}: {what}", why)
        tunnel.withhold(f"line {at.line}: {what}: {why}")

    def _remarks(self, tunnel: TunnelDraft) -> None:
        read = ipsec_conf_words.COMMON | (ipsec_conf_words.LIBRESWAN_READ if self._dialect == "libreswan" else frozenset())
        for key, value in self._values.items():
            bare = next((key.removeprefix(side) for side in SIDES if key.startswith(side)), key)
            what = f"{key} = {value.text}"
            harmless = value.text.lower() in ipsec_conf_words.HARMLESS.get(bare, ())
            why = ipsec_conf_words.LEFT_OUT.get(key)
            if key == f"{self._ours}sourceip" and self._dialect == "libreswan":
                self._draft.left_out(value.at, what, "the source of the gateway's own packets is chosen inside the selectors")
            elif key in ipsec_conf_words.WITHHOLDING and not harmless:
                self._refuse(tunnel, value.at, what, why or reasons.XAUTH)
            elif why is not None and not harmless:
                self._draft.left_out(value.at, what, why)
            elif why is None and key not in read and bare not in (ipsec_conf_words.SIDE | read | {""}):
                self._draft.left_out(value.at, what, "is not known here")

    def _ends(self, tunnel: TunnelDraft) -> None:
        remote = self._values.get(self._theirs) or SourceText("%any", self._section.at)
        text = remote.text.lstrip("%") if remote.text.startswith("%") and remote.text not in ("%any", "%any6") else remote.text
        if remote.text in ("%group", "%opportunistic", "%opportunisticgroup"):
            self._refuse(tunnel, remote.at, f"{self._theirs} = {remote.text}", reasons.OPPORTUNISTIC)
            text = "%any"
        strongswan.put_remote(tunnel, self._draft, text.split(","), remote)
        local = self._values.get(self._ours)
        if local is not None:
            strongswan.put_local(tunnel, self._draft, local)
        if self._text("forceencaps") == "yes" or self._text("encapsulation") == "yes":
            tunnel.put("encapsulation", "udp")
        elif self._text("encapsulation") == "no":
            tunnel.put("encapsulation", "esp")
        mtu = self._values.get("mtu")
        if mtu is not None and mtu.text.isdecimal() and len(mtu.text) < 6:
            tunnel.put("mtu", int(mtu.text))

    def _authentication(self, tunnel: TunnelDraft) -> None:
        for side, key in ((self._ours, "local_id"), (self._theirs, "remote_id")):
            strongswan.put_identity(tunnel, self._draft, key, self._side(side, "id"))
        default = self._values.get("authby", SourceText("pubkey", self._section.at))
        methods = [(self._side(side, "auth") or default).text for side in (self._ours, self._theirs)]
        if self._dialect == "libreswan":
            methods = [method.split(",")[0] for method in methods]
        kind, why = strongswan.authentication(methods[0], methods[1])
        if why:
            at = (self._side(self._theirs, "auth") or self._side(self._ours, "auth") or default).at
            self._refuse(tunnel, at, "authentication", why)
        elif kind == "psk":
            self._shared_key(tunnel)
        else:
            self._certificates(tunnel)
        if self._setup.get("uniqueids") in ("never", "keep"):
            tunnel.put("auth.unique", self._setup["uniqueids"])

    def _shared_key(self, tunnel: TunnelDraft) -> None:
        ours, theirs = ((self._text(f"{side}id"), self._text(side)) for side in (self._ours, self._theirs))
        key = key_for(self._secrets.keys, filter(None, ours), filter(None, theirs))
        if key is not None:
            give(tunnel, key)
            return
        what = f"conn {self._section.name}: its shared key"
        self._draft.left_out(self._section.at, what, "stands in no ipsec.secrets beside the file: to be filled in")
        tunnel.put("auth.psk_file", f"{tunnel.name}.psk", "to be filled in")

    def _certificates(self, tunnel: TunnelDraft) -> None:
        ours, theirs = (self._text(f"{side}cert") for side in (self._ours, self._theirs))
        if self._dialect == "libreswan":
            at = (self._side(self._ours, "cert") or SourceText("", self._section.at)).at
            self._refuse(tunnel, at, f"{self._ours}cert = {ours or 'none'}", reasons.NSS)
            return
        key = self._secrets.private[0].text if len(self._secrets.private) == 1 else ""
        put_certificates(tunnel, self._draft, self._beside, (ours, theirs, ""), key)
        if self._setup.get("strictcrlpolicy") == "yes":
            tunnel.put("auth.revocation", "strict")
        authority = self._side(self._theirs, "ca")
        if authority is not None and authority.text != "%same":
            what = f"{self._theirs}ca = {authority.text}"
            self._draft.left_out(authority.at, what, "an authority is named by its file: leave only its own in [tunnel.auth] ca")

    def _phases(self, tunnel: TunnelDraft) -> None:
        words = ipsec_conf_words.VERSIONS[self._dialect]
        version = words.get(self._text("keyexchange", "ike"), "2")
        version = ipsec_conf_words.IKEV2_WORDS.get(self._text("ikev2"), version)
        if version == "1":
            tunnel.put("ike.version", "1")
        if "yes" in (self._text("aggressive"), self._text("aggrmode")) and version == "1":
            tunnel.put("ike.mode", "aggressive")
        if self._dialect == "strongswan":
            self._strongswan(tunnel)
        else:
            self._libreswan(tunnel, version)
        idle = self._time("inactivity", default=0)
        if idle:
            tunnel.put("esp.idle_timeout", strongswan.duration(idle))

    def _strongswan(self, tunnel: TunnelDraft) -> None:
        strongswan.put_proposals(tunnel, self._draft, "ike", self._values.get("ike"), adds=True)
        margin = self._time("margintime", "rekeymargin", default=MARGIN_S)
        rekeys = self._text("rekey", "yes") != "no"
        life = self._time("ikelifetime", default=STRONGSWAN_IKE_S)
        comment = "" if "ikelifetime" in self._values else strongswan.DEFAULT
        strongswan.put_lifetime(tunnel, "ike", life - margin if rekeys else 0, life, comment)
        if self._text("reauth", "yes") != "no" and "ike.version" not in tunnel.settings and rekeys:
            comment = "" if "reauth" in self._values else f"{strongswan.DEFAULT}: reauth = yes"
            tunnel.put("ike.reauth_after", strongswan.duration(max(life - margin, 1)), comment)
        strongswan.put_proposals(tunnel, self._draft, "esp", self._values.get("esp"), adds=True)
        life = self._time("lifetime", "keylife", default=STRONGSWAN_ESP_S)
        comment = "" if "lifetime" in self._values or "keylife" in self._values else strongswan.DEFAULT
        strongswan.put_lifetime(tunnel, "esp", life - margin if rekeys else 0, life, comment)
        strongswan.put_window(tunnel, self._draft, self._values.get("replay_window"), STRONGSWAN_WINDOW, strongswan.DEFAULT)

    def _libreswan(self, tunnel: TunnelDraft, version: str) -> None:
        default = "Libreswan's default"
        ike = self._values.get("ike")
        if ike is None:
            made = algorithms.Translated(_for_version(algorithms.LIBRESWAN_IKE, version))
        else:
            made = algorithms.of_libreswan(ike.text, parse_ike)
        strongswan.put_translated(tunnel, self._draft, "ike", made, ike, default if ike is None else "")
        life = self._time("ikelifetime", default=LIBRESWAN_LIFE_S)
        tunnel.put("ike.lifetime", strongswan.duration(max(life, 1)), "" if "ikelifetime" in self._values else default)
        groups = algorithms.groups_of(made.proposals) if self._text("pfs", "yes") == "yes" else ()
        esp = next((self._values[key] for key in ("esp", "phase2alg") if key in self._values), None)
        text = ",".join(algorithms.LIBRESWAN_ESP_WORDS) if esp is None else esp.text
        made = algorithms.of_libreswan(text, parse_esp, groups)
        comment = f"{default}{', with forward secrecy (pfs = yes)' if groups else ''}" if esp is None else ""
        numbers = {"yes": "-esn", "no": "-noesn", "either": "-esn-noesn"}[self._esn(version)]
        made = algorithms.Translated(tuple(f"{text}{numbers}" for text in made.proposals), made.lost, made.legacy)
        strongswan.put_translated(tunnel, self._draft, "esp", made, esp, comment)
        keys = ("salifetime", "ipsec-lifetime", "keylife", "lifetime")
        life = self._time(*keys, default=LIBRESWAN_LIFE_S)
        tunnel.put("esp.lifetime", strongswan.duration(max(life, 1)), "" if any(key in self._values for key in keys) else default)
        strongswan.put_window(tunnel, self._draft, self._values.get("replay-window"), LIBRESWAN_WINDOW, default)

    def _esn(self, version: str) -> str:
        text = self._text("esn", "either")
        return "no" if version == "1" or text not in ("yes", "no", "either") else text

    def _liveness(self, tunnel: TunnelDraft) -> None:
        action = self._text("dpdaction", "none" if self._dialect == "strongswan" else "hold")
        asks = action != "none" if self._dialect == "strongswan" else "dpddelay" in self._values
        delay = self._time("dpddelay", default=STRONGSWAN_DELAY_S) if asks else 0
        liveness: dict[str, Plain] = {"interval": strongswan.duration(delay), "action": ipsec_conf_words.DPD.get(action, "clear")}
        tunnel.put("ike.liveness", liveness, "" if asks else f"{self._name}'s default: no checks")

    def _selectors(self, tunnel: TunnelDraft) -> None:
        try:
            ours, theirs = self._one(self._ours, tunnel, "local"), self._one(self._theirs, tunnel, "remote")
            tunnel.proxy_ids += proxy_ids(ours, theirs)
        except BadValueError as error:
            value = self._side(self._theirs, "subnet") or self._side(self._ours, "subnet") or SourceText("", self._section.at)
            self._refuse(tunnel, value.at, "subnets", f"{error.wrong}; {error.right}")

    def _one(self, side: str, tunnel: TunnelDraft, end: str) -> list[OneSide]:
        """The selectors of one side; without a subnet the outer address of that end."""
        protocol, _, port = self._text(f"{side}protoport").partition("/")
        value = self._side(side, "subnet") or self._side(side, "subnets")
        setting = tunnel.settings.get(end)
        try:
            own = None if setting is None else str(parse_address(str(setting.value)))
        except BadValueError:
            own = None  # a name, or anybody
        if value is None and own is None:
            raise BadValueError(f"{side} has no subnet, and no address that is known before", f"write {side}subnet")
        texts = ["dynamic"] if value is None else value.text.strip("{} ").replace(",", " ").split()
        made = []
        for text in texts:
            one = one_side(text, own)
            made.append(one if "[" in text or not protocol else OneSide(one.addresses, protocol_of(protocol), ports_of(port)))
        return made


def _for_version(proposals: tuple[str, ...], version: str) -> tuple[str, ...]:
    """What IKEv1 has of them: no AEAD protects phase 1."""
    return proposals if version == "2" else tuple(text for text in proposals if not algorithms.is_aead(text.split("-")[0]))
