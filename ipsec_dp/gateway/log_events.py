"""The events of the log: their names, to which later versions only add, and what each means; the subsystems, which have levels."""

from __future__ import annotations

from typing import Final

PACKAGE: Final = "ipsec_dp"

# Subsystems by the packages whose lines are theirs; the rest is the gateway's.
SUBSYSTEMS: Final[dict[str, tuple[str, ...]]] = {
    "ike": ("keying", "ike"),
    "network": ("network", "host"),
    "services": ("services",),
    "conditions": ("util",),
    "gateway": ("gateway", "config", "databases", "dataplane", "cli"),
}
_OF_PACKAGE: Final = {package: subsystem for subsystem, packages in SUBSYSTEMS.items() for package in packages}

LIBRARY: Final = "library"
NOTE: Final = "note"
LEFT_OUT: Final = "log_left_out"
JOURNAL_REFUSES: Final = "journal_refuses"

EVENTS: Final[dict[str, str]] = {
    # the gateway's life
    "gateway_starting": "a start of many tunnels goes on",
    "bring_up": "how many of the tunnels that are called at start are up",
    "gateway_up": "the gateway is up",
    "gateway_stopping": "it stops, and why",
    "gateway_failed": "it could not start, or had to end, and why",
    "upgrade_begins": "the gateway is about to be handed over to another process",
    "upgrade_again": "the gateway changed while its successor got ready, and another one is started",
    "upgrade_refused": "an upgrade came to nothing, and why; everything goes on",
    "upgraded": "another process goes on in the place of this one",
    "upgrade_left_out": "what it negotiates anew, and why",
    "upgrade_file": "the configuration file says something else than what was in force, and is taken over next",
    "gateway_taken_over": "this process goes on in the place of another",
    "upgrade_not_taken": "something beside the SAs (counters, monitors, MTUs, a device, packets, IKE) did not come along, and why",
    "upgrade_rest": "SAs came along that nobody knows (`count`)",
    "upgrade_lingers": "the process before this one does not end",
    "upgrade_unsettled": "the host could not be made all that the configuration wants after an upgrade",
    "upgrade_file_refused": "what the configuration file says is not in force after an upgrade, and why",
    "guard_holds": "what keeps protected traffic from leaving in clear after a start that failed",
    "guard_unseen": "whether something does cannot be seen",
    "opened_by_hand": "`ipsec-dp open`: packets leave in clear now",
    "keys_not_locked": "keys may reach swap",
    "key_log_unnamed": "keys of an algorithm that Wireshark has no name for are not in the key log",
    "manager_unreached": "the service manager could not be told",
    "cloned": "this machine was cloned or restored",
    "absence": "this host was suspended, or the process stopped",
    "condition": "something is wrong now; it is a warning in `status` while it lasts (`source`, `key`)",
    "fault": "a traceback, at debug level",
    "task_fault": "a fault of ipsec-dp in something that goes on by itself",
    # its configuration
    "reloaded": "another configuration is in force",
    "reload_refused": "a file is not taken over",
    "reload_finding": "one thing that is wrong with it (`where`, `key`)",
    "reload_failed": "a reload broke off",
    "change_unfinished": "a change of the host was not waited for any longer",
    "confirmed": "what waited to be confirmed is kept",
    "not_confirmed": "nobody confirmed it in time",
    "gone_back": "the former configuration is in force again",
    "going_back_failed": "it could not be brought back",
    "guard_stays_closed": "the guard holds what either configuration protects",
    # IKE
    "ike_up": "an IKE SA is up",
    "ike_rekeyed": "an IKE SA has new keys",
    "ike_reauthenticated": "an IKE SA was replaced by one that is authenticated anew",
    "ike_down": "an IKE SA has ended (`cause`)",
    "ike_failed": "an IKE SA did not come up (`cause`)",
    "child_up": "a CHILD_SA is up (`child`)",
    "child_rekeyed": "a CHILD_SA has new keys",
    "child_down": "a CHILD_SA has ended",
    "child_failed": "a CHILD_SA did not come up",
    "children_whole": "every CHILD_SA that is wanted is there",
    "moved": "the peer's outer address changed",
    "ike_warning": "something about an IKE SA that may matter",
    "ike_hint": "something that nobody has authenticated, and that may explain a failure",
    "ike_note": "what stood in a message and means nothing here, at debug level",
    "no_udp": "what was begun on UDP port 500 goes no further on port 4500",
    "ikev1": "a tunnel falls to IKEv1, or a peer asks for it",
    "ike_left_out": "lines about a tunnel's IKE SAs were left out, since there were too many (`count`)",
    "ike_message": "`--trace-ike`: one message; of those that the data plane answers by itself (COOKIE) how many, once a second",
    "trace_left_out": "messages that the trace left out (`count`)",
    "datagram_fault": "a datagram could not be handled, which is a fault of ipsec-dp",
    "action_failed": "something that IKE wanted could not be done",
    "call_failed": "there is no way to call a peer",
    "rekey_refused": "a monitor asked for new keys in vain",
    "manual_keys": "a tunnel has keys set by hand",
    "gate_failed": "the data plane did not learn what keeps strangers from IKE",
    "cookies_apart": "the data plane makes no cookies",
    "nested_refused": "IKE is not answered, since the answer would leave beside a tunnel",
    # packets
    "drops": "a reason begins to drop packets (`reason`, `count` until now)",
    "no_sa": "packets of a tunnel, and no SA to carry them",
    "unknown_spi": "ESP for an SPI that is nobody's",
    "sa_condition": "a limit of an SA with keys set by hand",
    "outer_socket": "an outer socket has lost an offload, or fails",
    "offload_lost": "the kernel refused an offload of an interface",
    "offloads_untried": "it was not found out whether the kernel does what it says of super-packets",
    "send_refused": "the kernel did not take an IKE datagram, at debug level",
    "zone_packet": "a packet that a `[[zone_rule]]` with `log` matched (`rule`, `verb`)",
    # the network
    "name_held": "somebody holds the gateway's name who cannot be one",
    "guard_remade": "the guard is made anew",
    "restored_again": "others take something away again and again, and it is made again (`part`, `count`)",
    "way_to_peer": "the way to a peer is not as it should be",
    "way_moved": "the way to a peer begins at another address of ours",
    "first_hop_unknown": "the MTU of the first hop is not known",
    "name_changed": "a DNS name means other addresses",
    "route_note": "a route is not as it was wanted",
    "rules_unseen": "routing rules of others cannot be seen",
    "carrier_refused": "an interface keeps its carrier (`interface`)",
    "queues_missing": "an interface has no queue for each worker",
    "queues_unsteered": "its queues cannot be steered",
    "receivers_unshared": "an outer socket is read by one worker for all",
    "usual_priority": "the control plane has no priority over others",
    "clones_unnoticed": "the kernel does not tell of clones here",
    "report_missing": "the kernel does not tell of something here",
    # services
    "service_failed": "a service does not do what the configuration wants (`service`)",
    "monitor_down": "a monitor's probes are not answered any more",
    "monitor_up": "they are again",
    "monitor_routes": "monitors could not move routes",
    "path_mtu": "the MTU of a path changed (`octets`)",
    "fragmented_outside": "IPv6 packets are fragmented outside (`octets`)",
    "mtu_unheard": "ICMP of a path is not heard",
    "mtu_failed": "an interface's MTU could not be set",
    "icmp_ignored": "an ICMP error that quotes nothing of ours, at debug level",
    "flows_deleted": "tracked connections were deleted (`count`)",
    # the log itself
    LEFT_OUT: "lines that could not be written, or were not read in time (`count`)",
    JOURNAL_REFUSES: "the journal takes nothing: lines go to stderr",
    LIBRARY: "a library that ipsec-dp uses says something",
    NOTE: "anything else",
}


def subsystem_of(logger: str) -> str:
    """Whose line it is, by the name of its logger ("ipsec_dp.keying.ike_driver": "ike")."""
    package, _, rest = logger.partition(".")
    return _OF_PACKAGE.get(rest.partition(".")[0], "gateway") if package == PACKAGE else LIBRARY


def loggers_of(subsystem: str) -> tuple[str, ...]:
    """Those whose level is the subsystem's."""
    return tuple(f"{PACKAGE}.{package}" for package in SUBSYSTEMS[subsystem])
