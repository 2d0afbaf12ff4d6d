"""What becomes of a tunnel whose configuration changed: the least that makes it what is written now.

Every key of the model has a row. A key without one would be `RESTART`, and a test asks for the row.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from ipsec_dp.config import model
from ipsec_dp.ike.effect import Effect

if TYPE_CHECKING:
    from collections.abc import Iterator


P, S, K, R = Effect.IN_PLACE, Effect.SELECTORS, Effect.REKEY, Effect.RESTART
_AUTH: Final = {"local_id": R, "remote_id": R, "material": R, "unique": P, "ppks": R, "ppk": R}
EFFECTS: Final[dict[type, dict[str, Effect]]] = {
    model.Tunnel: {
        "name": R,
        "local": R,
        "remotes": R,
        "interface": R,
        "addresses": P,
        "start": P,
        "encapsulation": R,
        "routes": P,
        "legacy": R,
        "proxy_ids": S,
        "auth": R,  # the kind; what is in it follows
        "ike": R,
        "esp": R,
        "manual": R,
        "monitor": P,
        "packets": P,
    },
    model.Ike: {
        "proposals": R,
        "lifetime_s": P,
        "rekey_after_s": P,
        "reauth_after_s": P,
        "liveness": P,
        "port": R,
        "fragment_size": P,
        "version": R,
        "ikev1_proposals": R,
        "mode": R,
        "post_quantum": R,
    },
    model.Monitor: dict.fromkeys(("target", "source", "interval_s", "threshold", "action"), P),
    model.Liveness: {"interval_s": P, "retries": P, "action": P},
    model.Esp: {
        "proposals": K,
        "lifetime_s": P,
        "rekey_after_s": P,
        "life_octets": P,
        "life_packets": P,
        "idle_timeout_s": P,
        "replay_window": K,
        "ikev1_proposals": R,
    },
    model.PskAuth: {**_AUTH, "psk_file": P},  # another file with the same secret changes nothing
    model.CertificateAuth: {
        **_AUTH,
        "material": Effect.REAUTH,
        "certificate": P,
        "private_key": P,
        "ca": P,
        "crl": P,
        "revocation": Effect.RECHECK,
        "ca_material": Effect.RECHECK,
        "crl_material": Effect.RECHECK,
    },
    model.ManualSa: dict.fromkeys(("suite", "spi_in", "spi_out", "key_in_file", "key_out_file", "material"), R),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One tunnel before and after, the keys that differ ("esp.lifetime_s"), and what that asks for."""

    old: model.Tunnel
    new: model.Tunnel
    keys: tuple[str, ...]
    effect: Effect


def compare(old: model.Tunnel, new: model.Tunnel) -> Change | None:
    """None when nothing in them differs."""
    found = dict(_differences(old, new, ""))
    if not found:
        return None
    effect = max(found.values())
    if new.manual is not None:
        effect = Effect.IN_PLACE if set(found) <= {"addresses", "routes"} else Effect.RESTART  # nothing renews manual SAs
    return Change(old, new, tuple(found), effect)


def _differences(old: Any, new: Any, prefix: str) -> Iterator[tuple[str, Effect]]:
    effects = EFFECTS.get(type(old), {})
    for key in fields(old):
        before, after = getattr(old, key.name), getattr(new, key.name)
        if not key.compare or before == after:
            continue
        if type(before) is type(after) and type(before) in EFFECTS:
            yield from _differences(before, after, f"{prefix}{key.name}.")
        else:
            yield prefix + key.name, effects.get(key.name, Effect.RESTART)
