"""What `status` says of where a tunnel's SAs come from, IKE or keys set by hand."""

from __future__ import annotations

import msgspec


class IkeSaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The IKE SA that is up. Every field has a default, so that an answer of another version can be shown too."""

    spi_i: str = ""
    spi_r: str = ""
    role: str = ""
    proposal: str = ""
    age_s: float | None = None
    rekey_in_s: float | None = None
    remote_id: str = ""
    version: int = 2


class KeyingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One tunnel. `up_at`: when it last came up, -inf: never, or not by IKE."""

    state: str
    state_text: str
    remote: str
    last_error: str | None = None
    nat: str = "none"
    ike: IkeSaStatus | None = None
    up_at: float = float("-inf")
