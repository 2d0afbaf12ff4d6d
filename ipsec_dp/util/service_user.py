"""Whom a gateway runs as, begun by `up` of root or by a service unit (docs/running.md): a user of its own."""

from __future__ import annotations

import pwd
from dataclasses import dataclass
from typing import Final

SERVICE_USER: Final = "ipsec-dp"
SERVICE_ID: Final = 65526  # where there is no such user: a number that neither Debian nor systemd gives to anybody


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """Whom a gateway runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def service_user() -> ServiceUser:
    """The user ipsec-dp, else one of a number that nobody has."""
    try:
        entry = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        return ServiceUser(SERVICE_ID, SERVICE_ID)
    return ServiceUser(entry.pw_uid, entry.pw_gid) if entry.pw_uid != 0 else ServiceUser(SERVICE_ID, SERVICE_ID)


def service_ids() -> frozenset[int]:
    """Users that nobody but gateways runs as."""
    return frozenset({service_user().uid, SERVICE_ID})
