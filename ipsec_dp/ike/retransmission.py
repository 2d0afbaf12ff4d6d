"""When a message that is not answered is sent again, in every version of IKE (RFC 7296 §2.4, RFC 2408 §5.1)."""

from __future__ import annotations

from typing import Final

FIRST_WAIT: Final = 1.0  # seconds before the first retransmission
BACK_OFF: Final = 1.8
LONGEST_WAIT: Final = 20.0
TOLD_AFTER: Final = 2  # retransmissions that nobody has answered: 2.8 s
NO_UDP_AFTER: Final = 4  # on port 4500, where another way is left: 11.8 s
TRIES: Final = 7  # retransmissions before an exchange is given up: 1 + 1.8 + 3.2 + 5.8 + 10.5 + 18.9 + 20 + 20 s
FAIL_OVER_TRIES: Final = 3  # the first message to one of several addresses: 1 + 1.8 + 3.2 + 5.8 s


def wait_after(attempt: int, first: float = FIRST_WAIT) -> float:
    """Seconds to wait for an answer to the message that was sent again so many times."""
    return min(first * BACK_OFF**attempt, LONGEST_WAIT)


def gives_udp_up(attempt: int, *, refused: bool) -> bool:
    """Whether it is said now that port 4500 has no answer. `attempt`: how often was asked again; `refused`: by an ICMP message,
    of which nobody knows who sent it: it only has that said sooner."""
    return attempt == NO_UDP_AFTER or (refused and attempt == TOLD_AFTER)
