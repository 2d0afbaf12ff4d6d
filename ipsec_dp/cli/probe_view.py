"""What `ipsec-dp probe` found, for people and programs, and the [[tunnel]] that would fit it."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.ike.v1 import vendors
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipsec_dp.ike.v1.survey import Ikev1Found
    from ipsec_dp.ike.v2.survey import Ikev2Found
    from ipsec_dp.ipsec.addresses import Address

SCHEMA: Final = 1
WIDTH: Final = 80
VENDOR_SHOWN: Final = 48  # characters of a vendor ID that nobody knows
UNPROVEN: Final = (
    "Nothing of this is authenticated: whoever sits between can have made it up. Whom a tunnel meets is decided by its secret or "
    "its certificates."
)
_NAT: Final = {"none": "none", "local": "before us", "remote": "before the peer", "both": "before both"}
TUNNEL: Final = """\
[[tunnel]]
name = "{name}"
remote = "{address}"
interface = "ipsec0"
start = "on-demand"{legacy}
  # [[tunnel.proxy_id]]           # without any: everything, both ways
  # local = "10.1.0.0/24"
  # remote = "10.2.0.0/24"
  [tunnel.auth]
  # local_id = "gw.example"       # who we are to the peer; without: our address
  # remote_id = "peer.example"    # who it is; without: its address
  psk_file = "{name}.psk"         # the secret, mode 0600; or certificate, private_key, ca
  [tunnel.ike]
  version = "{version}"
  proposals = ["{proposal}"]
"""


def name_of_vendor(octets: bytes) -> str:
    """By the table of IKEv1, whose vendor IDs IKEv2 has too; else as text where it is one, else its octets."""
    known = vendors.name_of(octets)
    if known:
        return known
    text = octets.decode("ascii", "replace")
    return shown(text if text.isascii() and text.isprintable() else octets.hex(), VENDOR_SHOWN)


def fitting_tunnel(host: str, address: Address, ikev2: Ikev2Found, ikev1: Ikev1Found) -> str | None:
    """In TOML; None: it answered nothing that a tunnel could be made of. It passes `check` once the secret is there."""
    version, suite, legacy = ("2", ikev2.suite, ikev2.legacy) if ikev2.suite is not None else ("1", ikev1.suite, ikev1.legacy)
    if suite is None:
        return None
    name = "to-" + (re.sub(r"[^A-Za-z0-9]+", "-", host).strip("-")[:32] or "peer")
    weak = "\nlegacy = true                     # it takes nothing better" if legacy else ""
    return TUNNEL.format(name=name, address=address, version=version, proposal=suite, legacy=weak)


def fields(host: str, address: Address, source: str, ikev2: Ikev2Found, ikev1: Ikev1Found, trouble: str | None) -> dict[str, Any]:
    """For programs. `tunnel`: its lines."""
    tunnel = fitting_tunnel(host, address, ikev2, ikev1)
    return {
        "schema": SCHEMA,
        "host": host,
        "address": str(address),
        "source": source,
        "authenticated": False,
        "trouble": trouble,
        "ikev2": {
            "spoken": ikev2.spoken,
            "says": ikev2.says or None,
            "suite": ikev2.suite,
            "legacy": ikev2.legacy,
            "wants_group": ikev2.wants_group,
            "accepts": dict(ikev2.accepts),
            "cookie": ikev2.cookie,
            "nat": ikev2.nat,
            "nat_port": ikev2.nat_port,
            "fragmentation": ikev2.fragmentation,
            "signature_hashes": ikev2.signature_hashes,
            "intermediate": ikev2.intermediate,
            "childless": ikev2.childless,
            "wants_certificates": ikev2.certificates,
            "vendors": [name_of_vendor(octets) for octets in ikev2.vendors],
        },
        "ikev1": {
            "spoken": ikev1.spoken,
            "says": ikev1.says or None,
            "suite": ikev1.suite,
            "legacy": ikev1.legacy,
            "method": ikev1.method,
            "fragmentation": ikev1.fragmentation,
            "vendors": list(ikev1.vendors),
            "unknown_vendors": ikev1.unknown_vendors,
        },
        "tunnel": None if tunnel is None else tunnel.splitlines(),
    }


def _row(name: str, value: str) -> str:
    return textwrap.fill(
        shown(value, LINE), WIDTH, initial_indent=f"  {name:<14}", subsequent_indent=" " * 16, break_on_hyphens=False
    )


def _listed(found: Ikev2Found) -> tuple[str, str]:
    """What it takes and what it refuses."""
    takes, refuses = ([name for name, good in found.accepts.items() if good is wanted] for wanted in (True, False))
    return ", ".join(takes), ", ".join(refuses)


def _of_ikev2(found: Ikev2Found) -> Iterator[tuple[str, str]]:
    takes, refuses = _listed(found)
    yield "chooses", found.suite or ""
    yield "says", found.says
    yield "asks first for", f"the key exchange {found.wants_group}" if found.wants_group else ""
    yield "takes", takes
    yield "refuses", refuses
    yield "cookies", "it asks for one: it is under load, or has many half-open IKE SAs" if found.cookie else "not asked for"
    yield "NAT", "it does not look for one" if found.nat is None else _NAT.get(found.nat, found.nat)
    yield "port 4500", "it answers" if found.nat_port else "no answer"
    yield "fragments", "it takes them (RFC 7383)" if found.fragmentation else "it takes none"
    yield "certificates", "it asks for them" if found.certificates else ""
    yield "vendor IDs", ", ".join(map(name_of_vendor, found.vendors))


def _of_ikev1(found: Ikev1Found) -> Iterator[tuple[str, str]]:
    yield "chooses", f"{found.suite}, authenticated by {found.method}" if found.suite else ""
    yield "says", found.says
    yield "fragments", "" if found.suite is None else "it takes them" if found.fragmentation else "it takes none"
    unknown = f"and {found.unknown_vendors} that are not known here" if found.unknown_vendors else ""
    yield "vendor IDs", ", ".join(part for part in (*found.vendors, unknown) if part)


def lines(host: str, address: Address, source: str, ikev2: Ikev2Found, ikev1: Ikev1Found, trouble: str | None) -> Iterator[str]:
    """For people."""
    yield shown(f"{host}{'' if host == str(address) else f' ({address})'}, asked from {source}")
    if trouble is not None:
        yield shown(trouble, LINE)
    for title, found, rows in (("IKEv2", ikev2, _of_ikev2(ikev2)), ("IKEv1", ikev1, _of_ikev1(ikev1))):
        answers = "it answers, and takes none of our proposals" if found.suite is None else "spoken"
        yield f"{title}: {answers if found.spoken else shown(found.says) if found.says else 'no answer'}"
        if found.spoken:
            yield from (_row(name, value) for name, value in rows if value)
    yield ""
    yield textwrap.fill(UNPROVEN, WIDTH)
    tunnel = fitting_tunnel(host, address, ikev2, ikev1)
    if tunnel is None:
        said = ikev2.spoken or ikev1.spoken
        why = "it takes none of our proposals, or expects nobody from our address: its log tells" if said else "nobody answered"
        yield textwrap.fill(f"No tunnel can be suggested: {why}.", WIDTH)
    else:
        yield textwrap.fill("A tunnel that would fit; who is who, the proxy IDs and the secret are yours to fill in:", WIDTH)
        yield ""
        yield tunnel.rstrip()
