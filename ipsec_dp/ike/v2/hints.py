"""What came for a request of ours and could not be used (RFC 7296 §2.21).

Nothing of it is proven to be the peer's, so it changes nothing: the genuine answer may still come. It is told at once while an IKE
SA is being made, and is what the last text says when no good answer came: "did not answer" is for a peer of whom nothing came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsec_dp.ike import lifetimes
from ipsec_dp.ike.actions import Kind
from ipsec_dp.ike.strangers import LIMITS
from ipsec_dp.ike.v2.exchanges import UnprovenError
from ipsec_dp.ike.v2.payloads import Encrypted, EncryptedFragment, Notify
from ipsec_dp.ike.v2.sa import CALLING
from ipsec_dp.ike.v2.wire import NotifyType
from ipsec_dp.ipsec import iana
from ipsec_dp.util.text import named, shown

if TYPE_CHECKING:
    from ipsec_dp.ike.actions import Cause, Path
    from ipsec_dp.ike.errors import IkeError
    from ipsec_dp.ike.v2.context import Context, Task
    from ipsec_dp.ike.v2.exchanges import OutstandingRequest
    from ipsec_dp.ike.v2.message import Message


def note(context: Context, text: str, path: Path, cause: Cause | None = None) -> bool:
    """It came by `path`, for the request under way. `cause`: what it says about why the peer refuses. False: that is known."""
    outstanding, hints = context.window.outstanding, context.handshake.hints
    if outstanding is None:
        return False
    elsewhere = "" if path.remote.address == context.path.remote.address else f"from {path.remote}: "
    hint = UnprovenError(shown(elsewhere + text), cause)  # one that was raised would hold all that its frames do, the datagram too
    if any(str(known) == str(hint) for known in hints):
        return False
    if len(hints) == LIMITS.hints:
        vague = next((known for known in hints if known.cause is None), None)
        if vague is None or cause is None:
            return False
        hints.remove(vague)
    hints.append(hint)
    if context.state in CALLING:
        context.report(Kind.HINT, f"{hint} (not authenticated)", cause=cause)
    return True


def refusal(context: Context, error: IkeError, outstanding: OutstandingRequest[Task], path: Path, now: float) -> None:
    """Keep asking, but not for long once the peer, as it seems, refuses."""
    cause = error.cause if isinstance(error, UnprovenError) else None
    if note(context, str(error), path, cause) and cause is not None:
        outstanding.last = True
        outstanding.deadline = min(outstanding.deadline, now + lifetimes.HINT_PATIENCE)


def unopened(context: Context, message: Message, path: Path) -> None:
    """A response that nothing proves."""
    exchange = iana.name(iana.EXCHANGES, "exchange", message.header.exchange)
    if not message.header.is_response:
        return
    if message.get(Encrypted) is not None or message.get(EncryptedFragment) is not None:
        note(context, f"a response to {exchange} whose ICV does not hold: it was made with other keys, or changed on the way", path)
        return
    notifies = message.all(Notify)
    said = named([f"N({iana.notify_text(one.notify_type)})" for one in notifies], 4) or "no notify"
    lost = any(one.notify_type == NotifyType.INVALID_IKE_SPI for one in notifies)
    note(context, f"an unprotected response to {exchange} with {said}" + (": it has lost this IKE SA" if lost else ""), path)


def instead_of_silence(context: Context, task: Task) -> str | None:
    """What is to be said of a peer that gave no answer which can be used; None: nothing came from it at all."""
    hints = context.handshake.hints
    if not hints:
        return None
    came = named([str(hint) for hint in hints], LIMITS.hints, "; ")
    asked = f"{task.tries + 1} times"
    return f"{context.path.remote} was asked {asked} ({task.name}); what came for it, not authenticated, cannot be used: {came}"
