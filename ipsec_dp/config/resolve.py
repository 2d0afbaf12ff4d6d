"""From tables to the model: texts become values, defaults are carried out, and what one table alone can get wrong is reported."""

from __future__ import annotations

import functools
import grp
import re
import socket
from typing import TYPE_CHECKING, Any, get_args

from ipsec_dp.config import model, tables, value_types
from ipsec_dp.config.auth import resolve_auth, resolve_manual
from ipsec_dp.config.ikev1 import check_ikev1, phase1_texts, phase2_texts
from ipsec_dp.config.monitors import resolve_monitor
from ipsec_dp.config.packets import resolve_packets
from ipsec_dp.config.post_quantum import check_post_quantum, offers
from ipsec_dp.config.preferred import check_preferred, fallback_phase1, fallback_phase2
from ipsec_dp.config.quantities import (
    parse_address,
    parse_duration,
    parse_interface_address,
    parse_prefix,
    parse_remote,
    parse_size,
)
from ipsec_dp.config.selectors import resolve_selectors
from ipsec_dp.errors import BadValueError
from ipsec_dp.ike.proposal import ProposalError, parse_esp, parse_ike
from ipsec_dp.ipsec.selectors import (
    SelectorPair,
)
from ipsec_dp.ipsec.suites import ESN_KEYWORDS
from ipsec_dp.ipsec.transforms import ENCRYPTIONS, GROUPS, INTEGRITIES, KEMS, PRFS, TransformType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ipsec_dp.config.findings import Place
    from ipsec_dp.config.named_files import NamedFiles
    from ipsec_dp.ike.peer import Start
    from ipsec_dp.ike.proposal import Proposal
    from ipsec_dp.ipsec.addresses import Address, Network

REPLAY_WINDOWS = tuple(2**bits for bits in range(6, 14))
LIFETIME_MAX_S = 365 * 86400
LIFETIME_SOUND_S = 60  # less than 10 s would be left from the soft limit on (`ike.lifetimes`)
WORKERS_MAX = 64
CPU_MAX = 1023
METRIC_MAX = 3_999_999_999  # what lies above is the guard's
FRAGMENT_SIZE_MIN, FRAGMENT_SIZE_MAX = 576, 65535  # octets: what every IPv4 host takes; the largest datagram
_NAME = re.compile(value_types.NAME_PATTERN)
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
# Names that the kernel's own files give a meaning (/proc/sys/net/ipv4/conf), or that every namespace has.
_RESERVED_INTERFACES = frozenset({".", "..", "all", "default", "lo"})


def check_name(name: str) -> str:
    """Names go into socket paths, logs and commands. Raises BadValueError."""
    if _NAME.fullmatch(name) is None:
        raise BadValueError(f"{name!r} cannot be a name", "write letters, digits, _ . - (64 at the most), a letter or digit first")
    return name


def check_interface(name: str) -> str:
    """A name for a network interface (Linux: IFNAMSIZ is 16 with the closing zero). Raises BadValueError."""
    if len(name) > 15:
        raise BadValueError(f'"{name}" has {len(name)} characters', f'an interface name has 15 at the most, e.g. "{name[:15]}"')
    if _INTERFACE.fullmatch(name) is None or name in _RESERVED_INTERFACES:
        raise BadValueError(f'"{name}" cannot be an interface', 'write letters, digits, _ . -, e.g. "ipsec0"')
    return name


def _at_least(place: Place, key: str, value: int, low: int, unit: str) -> None:
    if value < low:
        place.error(key, f"{value}{unit} is too little", f"write {low}{unit} or more")


def resolve_gateway(table: tables.Gateway, place: Place) -> tuple[str, int]:
    """The gateway's name and number of workers."""
    if table.name is not None:
        name = place.value("name", check_name, table.name, table.name)
    else:
        name = socket.gethostname()
        if _NAME.fullmatch(name) is None:
            place.error("name", f"is missing, and the host's name {name!r} cannot stand for it", 'write e.g. name = "site-a"')
    if not 1 <= table.workers <= WORKERS_MAX:
        place.error("workers", f"{table.workers} workers cannot be", f"write a number from 1 to {WORKERS_MAX}")
    if not value_types.SOCKET_BUFFER_MIN <= table.socket_buffer <= value_types.SOCKET_BUFFER_MAX:
        least, most = value_types.SOCKET_BUFFER_MIN, value_types.SOCKET_BUFFER_MAX
        place.error(
            "socket_buffer", f"a buffer of {table.socket_buffer} octets cannot be", f"write a number from {least} to {most}"
        )
    if isinstance(table.pin, tuple):
        if not table.pin:
            place.error("pin", "holds no CPU", "write the numbers of CPUs, true or false")
        for cpu in table.pin:
            if not 0 <= cpu <= CPU_MAX:
                place.error("pin", f"{cpu} is the number of no CPU", f"write numbers from 0 to {CPU_MAX}")
    return name, table.workers


def check_group(text: str) -> str:
    """A group of this host. Raises BadValueError."""
    try:
        grp.getgrnam(text)
    except (KeyError, ValueError):  # ValueError: a NUL in it
        raise BadValueError(f"this host has no group {text!r}", "make it with groupadd --system, or name another") from None
    return text


def resolve_keylog(table: tables.Gateway, base: Path, place: Place) -> Path | None:
    """The directory for keys; it need not be there yet."""
    if table.keylog_file is None:
        return None
    if not table.keylog_file or "\0" in table.keylog_file:
        place.error("keylog_file", f"{table.keylog_file!r} is no directory's name", 'write e.g. "/var/lib/ipsec-dp/keys"')
        return None
    place.warn(
        "keylog_file",
        "the keys of all SAs are written down: whoever has them reads everything that the tunnels carry",
        "take it out when the search is over, and delete the files",
    )
    return base / table.keylog_file


def resolve_offloads(table: tables.Gateway) -> frozenset[str]:
    """The names of the offloads that may be used."""
    if table.offloads == "all":
        return frozenset(get_args(value_types.OffloadName))
    return frozenset() if table.offloads == "none" else frozenset(table.offloads)


def _resolve_ike(table: tables.Ike, legacy: bool, place: Place) -> model.Ike:
    texts = offers(table, phase1_texts(table), legacy)
    lifetime = place.value("lifetime", parse_duration, table.lifetime, 3600)
    _check_lifetime(place, "lifetime", lifetime)
    alive = place.below("liveness")
    interval = alive.value("interval", parse_duration, table.liveness.interval, 10)
    if not 1 <= table.liveness.retries <= 100:
        alive.error("retries", f"{table.liveness.retries} retries cannot be", "write a number from 1 to 100")
    proposals = _resolve_proposals(place, parse_ike, texts, legacy, "aes256gcm16-prfsha384-ecp384")
    if table.version != "1":
        _check_first_message(place, proposals)
    return model.Ike(
        version=1 if table.version == "1" else 2,
        mode=table.mode,
        proposals=proposals,
        ikev1_proposals=fallback_phase1(table, legacy),
        post_quantum=table.post_quantum,
        lifetime_s=lifetime,
        rekey_after_s=_resolve_rekey_after(place, table.rekey_after, lifetime),
        reauth_after_s=_resolve_reauth_after(place, table.reauth_after),
        port=_resolve_port(place, table.port),
        fragment_size=_resolve_fragment_size(place, table.fragment_size),
        liveness=model.Liveness(interval_s=interval, retries=table.liveness.retries, action=table.liveness.action),
    )


def _resolve_reauth_after(place: Place, text: str) -> int:
    seconds = place.value("reauth_after", parse_duration, text, 0)
    if seconds > LIFETIME_MAX_S:
        place.error("reauth_after", f"{seconds // 86400} days are longer than a year", "write a shorter one, or 0s (never)")
    return seconds


def _resolve_port(place: Place, port: int) -> model.IkePort:
    match port:
        case 500 | 4500:
            return port
    place.error("port", f"{port} is no port that IKE starts on", "write 500 or 4500 (RFC 7296 §2.23)")
    return 500


def _resolve_fragment_size(place: Place, octets: int) -> int:
    if not FRAGMENT_SIZE_MIN <= octets <= FRAGMENT_SIZE_MAX:
        place.error(
            "fragment_size",
            f"{octets} octets cannot be",
            f"write {FRAGMENT_SIZE_MIN} to {FRAGMENT_SIZE_MAX}, e.g. 1280, which every IPv6 path carries (RFC 7383 §2.5.1)",
        )
    return octets


def _resolve_proposals(
    place: Place, parse: Callable[..., tuple[Proposal, ...]], texts: tuple[str, ...], legacy: bool, example: str
) -> tuple[Proposal, ...]:
    """All proposals numbered together; each text that is none is reported by itself."""
    before = place.findings.errors
    if not texts:
        place.error("proposals", "is empty", f'write e.g. ["{example}"]')
    for text in texts:
        try:
            _parsed(parse, (text,), legacy)
        except ProposalError as error:
            place.error("proposals", str(error), f'write e.g. "{example}"; the words are {_words(parse)}')
    return () if place.findings.errors > before else _parsed(parse, texts, legacy)


def _check_first_message(place: Place, proposals: tuple[Proposal, ...]) -> None:
    """A key encapsulation in IKE_SA_INIT, which IKE cannot divide."""
    first = {transform.id for each in proposals for transform in each.transforms if transform.type == TransformType.KE}
    methods = [method for method in KEMS if method.id in first]
    if not methods:
        return
    from ipsec_dp.ike.v2 import first_request

    large = methods[-1]
    octets = first_request.octets(proposals, large)
    place.warn(
        "proposals",
        f"{large.keyword} as the first key exchange: IKE_SA_INIT has {octets} octets, which IKE cannot divide (RFC 7383 §2.1); it "
        "is lost where fragments of IP are, and 1280 octets are what every path takes",
        f"write x25519-ke1_{large.keyword}: that goes in IKE_INTERMEDIATE, which IKE divides",
    )


def _words(parse: Callable[..., tuple[Proposal, ...]]) -> str:
    groups = [group for group in GROUPS if not group.legacy]
    rows = (*ENCRYPTIONS, *INTEGRITIES, *(PRFS if parse is parse_ike else ()), *groups)
    kems = (f"ke1_{method.keyword}" for method in KEMS)
    return " ".join((*(row.keyword for row in rows), *kems, "ke1_none", *(() if parse is parse_ike else ESN_KEYWORDS)))


@functools.lru_cache(maxsize=64)
def _parsed(parse: Callable[..., tuple[Proposal, ...]], texts: tuple[str, ...], legacy: bool) -> tuple[Proposal, ...]:
    """Thousands of tunnels with the same texts share one result."""
    return parse(texts, legacy=legacy)


def _check_lifetime(place: Place, key: str, seconds: int) -> None:
    _at_least(place, key, seconds, 1, "s")
    if seconds > LIFETIME_MAX_S:
        place.error(key, f"{seconds // 86400} days are no lifetime", "keys live for a year at the most; usual are 1h and 8h")
    if 1 <= seconds < LIFETIME_SOUND_S:
        place.warn(
            key,
            f"{seconds}s leave little time to negotiate new keys; while that goes on, the old ones live up to 10s longer",
            f"write {LIFETIME_SOUND_S}s or more; usual are 1h and 8h",
        )


def _resolve_rekey_after(place: Place, text: str, lifetime: int) -> int:
    seconds = place.value("rekey_after", parse_duration, text, 0)
    if seconds and seconds >= lifetime:
        place.error(
            "rekey_after", f"{seconds}s is not before the lifetime of {lifetime}s ends", "write a shorter one, or leave it out"
        )
    return seconds


def _resolve_esp(table: tables.Esp, version: str, legacy: bool, place: Place) -> model.Esp:
    lifetime = place.value("lifetime", parse_duration, table.lifetime, 3600)
    _check_lifetime(place, "lifetime", lifetime)
    idle = place.value("idle_timeout", parse_duration, table.idle_timeout, 0)
    octets = place.value("life_octets", parse_size, table.life_octets, 0)
    _at_least(place, "life_packets", table.life_packets, 0, "")
    window = table.replay_window
    if window not in REPLAY_WINDOWS:
        nearest = min(REPLAY_WINDOWS, key=lambda size: abs(size - window))
        place.error("replay_window", f"{window} is not a power of two from 64 to 8192", f"write {nearest}")
    if 0 < octets < 2**16:
        place.warn("life_octets", f"{octets} octets are less than one burst of packets", "write 0 (no limit) or e.g. 500GB")
    if idle > lifetime:
        place.warn("idle_timeout", f"{idle}s is longer than the lifetime of {lifetime}s", "write a shorter one, or 0s (never)")
    return model.Esp(
        proposals=_resolve_proposals(place, parse_esp, phase2_texts(table, version), legacy, "aes256gcm16-esn"),
        ikev1_proposals=fallback_phase2(table, version, legacy),
        lifetime_s=lifetime,
        rekey_after_s=_resolve_rekey_after(place, table.rekey_after, lifetime),
        life_octets=octets,
        life_packets=table.life_packets,
        idle_timeout_s=idle,
        replay_window=window,
    )


def _resolve_remotes(table: tables.Tunnel, place: Place) -> tuple[Address | str, ...]:
    """The peers to try in turn; empty for "any"."""
    texts = (table.remote,) if isinstance(table.remote, str) else table.remote
    if texts is None or texts == ("any",):
        return ()
    if not texts:
        place.error("remote", "is empty", 'write an address, a DNS name, a list of them, or "any"')
    if "any" in texts:
        place.error("remote", '"any" stands in a list', 'write "any" alone')
        texts = tuple(text for text in texts if text != "any")
    remotes = place.values("remote", parse_remote, texts)
    for index, remote in enumerate(remotes):
        if remote in remotes[:index]:
            place.error("remote", f"{remote} is listed twice", "name each peer once")
    return remotes


def _resolve_start(table: tables.Tunnel, given: Mapping[str, Any], place: Place) -> Start:
    if table.remote != "any" or table.start == "respond":
        return table.start
    if "start" in given:
        place.error("start", f'"{table.start}" needs a peer to call, and remote is "any"', 'write start = "respond"')
    return "respond"


def _resolve_routes(table: tables.Tunnel, selectors: tuple[SelectorPair, ...], place: Place) -> tuple[Network, ...]:
    """The prefixes to route, each once, in order."""
    if table.routes == "none":
        return ()
    if table.routes == "auto":
        remotes = (selector.remote for selector in selectors if not selector.remote.everything)
        return tuple(dict.fromkeys(prefix for remote in remotes for prefix in remote.prefixes))
    return tuple(dict.fromkeys(place.values("routes", parse_prefix, table.routes)))


def _check_ends(tunnel: model.Tunnel, place: Place) -> None:
    """Both outer ends: of one IP version, and not the same."""
    if tunnel.local is None:
        return
    for remote in tunnel.remotes:
        if isinstance(remote, str):
            continue
        if remote.version != tunnel.local.version:
            place.error(
                "remote",
                f"{remote} is not of the IP version of local = {tunnel.local}",
                f"write an IPv{tunnel.local.version} address",
            )
        elif remote == tunnel.local:
            place.error("remote", f"{remote} is also local", "write the peer's address")


def resolve_tunnel(table: tables.Tunnel, given: Mapping[str, Any], place: Place, named_files: NamedFiles) -> model.Tunnel:
    """One tunnel; `given` is what the file itself wrote, `named_files` what is known of those that it names."""
    proxy_ids: list[SelectorPair] = []
    for number, proxy_id in enumerate(table.proxy_id, 1):
        proxy_ids.extend(resolve_selectors(proxy_id, place.below(f"proxy_id #{number}")))
    remotes = _resolve_remotes(table, place)
    manual = resolve_manual(table, given, remotes, place, named_files)
    name = place.optional("name", check_name, table.name) or ""
    local = place.optional("local", parse_address, table.local)
    tunnel = model.Tunnel(
        name=name,
        local=local,
        remotes=remotes,
        interface=place.value("interface", check_interface, table.interface, table.interface),
        addresses=place.values("address", parse_interface_address, table.address),
        start=_resolve_start(table, given, place),
        encapsulation="esp" if manual is not None and table.encapsulation == "auto" else table.encapsulation,
        routes=_resolve_routes(table, tuple(proxy_ids), place),
        legacy=table.legacy,
        proxy_ids=tuple(proxy_ids),
        auth=resolve_auth(table, given, (local, remotes), place, named_files),
        ike=_resolve_ike(table.ike, table.legacy, place.below("ike")),
        esp=_resolve_esp(table.esp, table.ike.version, table.legacy, place.below("esp")),
        manual=manual,
        monitor=resolve_monitor(table.monitor, place.below("monitor")),
        packets=resolve_packets(table, proxy_ids, place),
    )
    _check_ends(tunnel, place)
    check_ikev1(tunnel, table, place, named_files)
    check_preferred(tunnel, table, place, named_files)
    check_post_quantum(tunnel, table, place)
    return tunnel


def resolve_policy(table: tables.Policy, place: Place) -> model.Policy:
    """One [[policy]]; whether its tunnel exists is seen later, when all are known."""
    if table.action == "protect" and table.tunnel is None:
        place.error("tunnel", "is missing under protect", "name the tunnel that carries this traffic")
    if table.action in ("bypass", "discard") and table.tunnel is not None:
        place.error("tunnel", f"has no meaning under {table.action}", 'leave it out, or write action = "protect"')
    return model.Policy(action=table.action or "discard", tunnel=table.tunnel, selectors=resolve_selectors(table, place))


def resolve_route(table: tables.Route, place: Place) -> model.Route | None:
    """One [[route]]; None when it lacks a prefix or a tunnel."""
    if not 1 <= table.metric <= METRIC_MAX:
        place.error("metric", f"{table.metric} cannot be a metric", f"write a number from 1 to {METRIC_MAX}")
    prefix = place.optional("prefix", parse_prefix, table.prefix)
    if prefix is None or table.tunnel is None:
        return None
    return model.Route(prefix=prefix, tunnel=table.tunnel, metric=table.metric)
