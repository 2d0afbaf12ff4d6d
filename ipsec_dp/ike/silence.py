"""What is said of a message of ours that has no answer, and of a peer that does not go on, in every version of IKE.

Sentences alone: when they hold, and what is waited for, is each version's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipsec_dp.ike.actions import IKE_PORT, NATT_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ipsec_dp.ike.actions import Endpoint, Path

SMALLER_SIZE: Final = "a smaller ike.fragment_size makes them shorter"
NO_FRAGMENTS: Final = "it takes none of IKE's own fragments: let fragments of IP pass on the way"
LONG: Final = 1200  # octets of a datagram that may be fragmented on the way
HALF_OPEN_TOLD: Final = 5.0  # seconds: who got an answer goes on within one
OTHER_KEYS: Final = (  # of the first message after additional key exchanges
    "it did answer IKE_INTERMEDIATE, so most likely the two sides have other keys since: its key exchange was changed on the way, "
    "or one of them computes it otherwise; its log may tell more"
)
_OURS: Final = "this host itself refuses to send"


def does_not_leave(what: str, remote: Endpoint, why: str) -> str:
    return f"{what} to {remote} does not leave: {_OURS}: {why}"


def answers_do_not_leave(remote: Endpoint, why: str) -> str:
    return f"our answers to {remote} do not leave: {_OURS}: {why}"


def waits(remote: Endpoint, what: str, seconds: float, sent: int) -> str:
    return f"{remote} has not answered {what} for {max(seconds, 0.0):.0f} s, sent {sent} times"


def unusable(waiting: str, hint: str) -> str:
    """Something came instead."""
    return f"{waiting}, in a way that can be used; what came is not authenticated: {hint}"


# ---- why -------------------------------------------------------------------------------------------------------------------------


def nobody_there(path: Path, version: str = "IKEv2") -> str:
    """Of the very first message."""
    port = path.remote.port
    return (
        f"is that its address, or is it down (ping it)? Does {version} run there, and does it expect {path.local.address}? Let UDP"
        f" port {port} pass, there and back (look there with: tcpdump -n -i any udp port {port})"
    )


def port_blocked(answered: str, port: int) -> str:
    """Of the first message to port 4500."""
    return (
        f"it did answer {answered} on UDP port {IKE_PORT}, so most likely UDP port {port} is blocked: let UDP port {port}"
        " pass, there and back"
    )


def keys_or_port(differ: str, answered: str, port: int) -> str:
    """Of the first message to port 4500 that is a proof as well, which who cannot read it passes over."""
    return (
        f"it did answer {answered} on UDP port {IKE_PORT}, so either {differ}, or UDP port {port} is blocked: let UDP port {port}"
        " pass, there and back"
    )


def udp_spared(remote: Endpoint, answered: str, *, refused: bool) -> str:
    """Of what is done about that, where ESP need not go in UDP."""
    what = "is refused (an ICMP message says so)" if refused else "has no answer"
    return f"{remote} did answer {answered} on UDP port {IKE_PORT}, and what is sent to port {remote.port} {what}"


def its_log(answered: str, port: int) -> str:
    return f"it did answer {answered} on UDP port {port}, so its log may tell more"


def packets_come(port: int, lost: str) -> str:
    """ESP does."""
    way = f"it passes over this one, or UDP port {port} is blocked, there or back{lost}"
    return f"packets do come by its SAs, so it is up and the way is there: {way}; its log may tell more"


def messages_come(lost: str) -> str:
    return f"its own messages do come, so ours are lost on the way, or it passes over this one{lost}"


def went_down(port: int, heard_s: float) -> str:
    return (
        f"it was last heard {heard_s:.0f} s ago; it is down, has lost this IKE SA, or UDP port {port} is blocked now: ping it,"
        f" and look there with: tcpdump -n -i any udp port {port}"
    )


def long_ones_lost(datagrams: Iterable[bytes], remedy: str) -> str:
    """Nothing where none is long. `remedy`: what is done about it, or can be."""
    octets = max(map(len, datagrams), default=0)
    return f"; or datagrams of {octets} octets are lost, as fragments are behind some firewalls: {remedy}" if octets > LONG else ""


def shorter_are_tried(octets: int) -> str:
    """A remedy."""
    return f"it is sent in ones of {octets} octets at the most besides, and what follows too once that is answered"


def shorter_get_there(remote: Endpoint, octets: int, before: int, minutes: int) -> str:
    """What came of that."""
    said = f"{remote} answers what was sent in datagrams of {octets} octets at the most besides, and not what was longer"
    return (
        f"{said}: for {minutes} minutes nothing goes in longer ones; ike.fragment_size = {octets}, not {before}, has it so always"
    )


# ---- the peer began, and does not go on ------------------------------------------------------------------------------------------


def does_not_go_on(remote: Endpoint, began: str, seconds: float, awaited: str, why: str) -> str:
    said = f"{remote} began ({began}) and was answered {seconds:.0f} s ago"
    return f"{said}, and no {awaited} that can be read came since (not authenticated): {why}"


def why_not(path: Path, *, a_part: bool, repeats: bool, floats: bool) -> str:
    """`a_part`: some fragments came; `floats`: the next message is to come to port 4500."""
    port = path.local.port
    if a_part:
        return "a part of its fragments did: are others lost, being too long for the way? write a smaller ike.fragment_size there"
    if repeats:
        following = f", and UDP port {NATT_PORT}, there and back, for what follows" if port != NATT_PORT else ""
        return f"it repeats its request, so our answers do not get there: let UDP port {port} pass from here to there{following}"
    if floats:
        return (
            f"is UDP port {NATT_PORT} blocked between you, or did the answer not get there? let UDP ports {port} and {NATT_PORT} "
            "pass, there and back; its log may tell more"
        )
    return (
        f"did the answer not get there, or is a longer message lost, as fragments are behind some firewalls? "
        f"let UDP port {port} pass, there and back; its log may tell more"
    )
