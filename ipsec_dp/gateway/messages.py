"""What is asked at the control socket and answered but for `status` and `policy explain`. The tag of a request is its verb."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from ipsec_dp.errors import Finding

SCHEMA: Final = 1
CONFIRM_MAX_S: Final = 86400


class ControlRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="verb"):
    """What every request has: a verb."""


class StatusRequest(ControlRequest, frozen=True, tag="status"):
    """The gateway and all tunnels, or the one of this name, or those in this state."""

    name: str | None = None
    state: str | None = None


class FollowRequest(ControlRequest, frozen=True, tag="follow"):
    """The events from now on, of all tunnels or the one of this name, and of the gateway: a line each after the answer."""

    name: str | None = None


class CaptureRequest(ControlRequest, frozen=True, tag="capture"):
    """Packets from now on, of all tunnels or the one of this name: pcapng after the answer, until the client closes his half of the
    connection. `snap`: octets kept of each, 0: all."""

    inner: bool = True
    outer: bool = True
    name: str | None = None
    snap: int = 0


class DownRequest(ControlRequest, frozen=True, tag="down"):
    """Stop."""


class ReloadRequest(ControlRequest, frozen=True, tag="reload"):
    """Take the configuration over, from another file than last time if one is named.

    `confirm_s`: the former one comes back unless ConfirmRequest follows within so many seconds.
    """

    file: str | None = None
    confirm_s: float | None = None


class PreviewRequest(ControlRequest, frozen=True, tag="preview"):
    """Say what a reload would do, and do nothing. A verb of its own: a gateway that does not know it must not reload."""

    file: str | None = None


class ConfirmRequest(ControlRequest, frozen=True, tag="confirm"):
    """Keep what waits to be confirmed. `name`: the gateway's, if it is to be this one."""

    name: str | None = None


class ExplainRequest(ControlRequest, frozen=True, tag="explain"):
    """What decides about a packet. Under ICMP `sport` is the type and `dport` the code. `iif`: it comes from another host by it."""

    source: str
    destination: str
    protocol: str | int | None = None
    sport: str | int | None = None
    dport: str | int | None = None
    inbound: bool = False
    iif: str | None = None


class InitiateRequest(ControlRequest, frozen=True, tag="initiate"):
    """Negotiate a tunnel now."""

    name: str


class RekeyRequest(ControlRequest, frozen=True, tag="rekey"):
    """New keys for a tunnel's CHILD_SAs, or for its IKE SA."""

    name: str
    ike: bool = False


class TerminateRequest(ControlRequest, frozen=True, tag="terminate"):
    """Delete a tunnel's SAs."""

    name: str


class UnpinRequest(ControlRequest, frozen=True, tag="unpin"):
    """Forget that a tunnel's peer has authenticated with IKEv2."""

    name: str


class LogRequest(ControlRequest, frozen=True, tag="log"):
    """Say how the log is; with `level`, write from that one on, of `subsystem` or of all. `trace_ike`: write a line for each IKE
    message, or no more."""

    level: Literal["debug", "info", "warning", "error"] | None = None
    subsystem: str | None = None
    trace_ike: bool | None = None


class ReportRequest(ControlRequest, frozen=True, tag="bugreport"):
    """What a report about a fault has from nowhere else."""


class TestRequest(ControlRequest, frozen=True, tag="test"):
    """Negotiate a tunnel on trial. `beside`: also beside an IKE SA that is up."""

    __test__ = False  # nor is it one of pytest's

    name: str
    beside: bool = False


NegotiationRequest = InitiateRequest | RekeyRequest | TerminateRequest | UnpinRequest | TestRequest


class FollowAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What comes after it: events of this schema (`ipsec_dp.gateway.stream_event`)."""

    schema: int
    gateway: str


class CaptureAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What comes after it: the octets of a pcapng file."""

    gateway: str


class LogAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The log as it is now: the level of each subsystem, how many lines are lost, and why some are at the moment; whether there is
    a line for each IKE message."""

    format: str
    levels: dict[str, str]
    left_out: int = 0
    trouble: str | None = None
    trace_ike: bool = False


class ReportAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration's file, the log as it is, and the last events (of the schema of `status --follow`)."""

    gateway: str
    config: str
    log: LogAnswer
    events: tuple[dict[str, Any], ...] = ()


class UpgradeRequest(ControlRequest, frozen=True, tag="upgrade"):
    """Hands the gateway over to the program that is installed, or to that at `program`, an absolute path."""

    program: str | None = None


class UpgradeLeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """What was not carried, and is negotiated anew; without a tunnel: it belongs to none."""

    tunnel: str = ""
    why: str = ""


class UpgradeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway goes on in `process`, of `version`; `before` is that of the process which has answered and is gone. `changes`:
    what the configuration file says otherwise than what was in force, which the process takes over next; null: nothing. `gap_ms`:
    for how long nobody forwarded; `took_s`: the whole of it."""

    gateway: str
    before: str
    version: str
    process: int
    ike_sas: int
    child_sas: int
    left_out: tuple[UpgradeLeftOut, ...] = ()
    changes: str | None = None
    gap_ms: float
    took_s: float


class DownAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The name of the gateway that is gone."""

    stopped: str


class ConfirmAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept from now on, and by which gateway."""

    gateway: str
    confirmed: str


class NegotiationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The tunnel that a verb of IKE was carried out for. What comes of it shows in the log and in `status`."""

    tunnel: str
    verb: str


class ReloadRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was not taken over, with all that is wrong with it. Nothing changed."""

    schema: int = SCHEMA
    applied: bool = False
    file: str
    findings: tuple[Finding, ...] = ()


class TunnelChange(msgspec.Struct, frozen=True, kw_only=True):
    """A tunnel that is configured otherwise: the keys that differ, and what became of its SAs."""

    name: str
    keys: tuple[str, ...]
    effect: str


class ReloadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload did. `kept`: how many tunnels nothing changed for; `confirm_within_s`: it goes back unless it is confirmed.

    `dry_run`: what it would do; then `applied` is false.
    """

    schema: int = SCHEMA
    applied: bool = True
    file: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[TunnelChange, ...]
    kept: int
    findings: tuple[Finding, ...]
    read_s: float
    applied_s: float
    confirm_within_s: float | msgspec.UnsetType = msgspec.UNSET
    dry_run: bool | msgspec.UnsetType = msgspec.UNSET

    @property
    def summary(self) -> str:
        """One line for a log."""
        counts = f"{len(self.added)} added, {len(self.removed)} removed, {len(self.changed)} changed, {self.kept} kept"
        return f"{counts}; read in {self.read_s} s, applied in {self.applied_s} s"


class ReloadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What both answers to `reload` have."""

    applied: bool
    dry_run: bool = False
    findings: tuple[Finding, ...] = ()
