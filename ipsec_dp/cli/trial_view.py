"""What `ipsec-dp test` shows people: a line a stage, then both sides, then what is to be known besides. 80 columns are enough."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from ipsec_dp.cli.options import say
from ipsec_dp.util.text import LINE, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipsec_dp.gateway.trial_answer import TrialAnswer, TrialCertificate

WIDTH: Final = 80
MARKS: Final = {"ok": "ok", "failed": "failed", "not tried": "-"}
_FRAGMENTS: Final = {True: "both sides take them", False: "the peer takes none"}
_NAT: Final = {"none": "none", "local": "before us", "remote": "before the peer", "both": "before both"}


def _wrapped(head: str, text: str, indent: int) -> str:
    """`text` beside `head`, its further lines below it."""
    return textwrap.fill(
        shown(text, LINE),
        WIDTH,
        initial_indent=head.ljust(indent),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def print_trial(answer: TrialAnswer, *, messages: bool) -> None:
    for part in lines(answer, messages=messages):
        for line in part.split("\n"):
            say(line, whole=True)


def lines(answer: TrialAnswer, *, messages: bool) -> Iterator[str]:
    """As they are printed."""
    yield shown(f"{answer.tunnel}: IKEv{answer.version}, {answer.local} to {answer.remote}")
    yield from (_wrapped("  before", text, 12) for text in answer.others)
    for step in answer.steps:
        head = f"  {step.step:<9} {MARKS[step.state]:<7}"
        yield _wrapped(head, step.text, len(head) + 1)
    facts = [(name, value) for name, value in _facts(answer) if value]
    yield from (_wrapped(f"  {name}", value, 14) for name, value in facts)
    yield from _also("told on the way", answer.told)
    yield from _also("besides", answer.notes)
    if messages:
        yield "  messages:"
        yield from (f"    {shown(each, LINE)}" for each in answer.messages)
    yield "passed" if answer.passed else shown(f"failed at {answer.exchange or answer.failed}", LINE)


def _also(title: str, texts: Iterable[str]) -> Iterator[str]:
    texts = list(texts)
    if texts:
        yield f"  {title}:"
        yield from (_wrapped("  -", text, 4) for text in texts)


def _facts(answer: TrialAnswer) -> Iterator[tuple[str, str]]:
    """Both sides, where what was agreed on is not all that there is to know."""
    yield "IKE", _both(answer.ike_offered, answer.ike_agreed)
    yield "ESP", _both(answer.esp_offered, ", ".join(answer.esp_agreed))
    yield "selectors", _both(", ".join(answer.selectors_offered), ", ".join(answer.selectors_agreed))
    yield "refused", "; ".join(answer.selectors_refused)
    yield "we are", answer.local_id or "our address"
    yield "peer is", _peer(answer)
    for each in answer.certificates:
        yield f"{each.side} cert", _certificate(each)
    yield "NAT", "" if answer.nat is None else _NAT.get(answer.nat, answer.nat)
    yield "ESP goes in", {"udp": "UDP", "esp": "IP protocol 50"}.get(answer.encapsulation or "", "")
    yield (
        "fragments",
        "" if answer.fragmentation is None else "both sides take them" if answer.fragmentation else "not of the peer's",
    )
    yield "vendors", ", ".join(answer.vendors)


def _both(offered: str, agreed: str | None) -> str:
    return f"offered {offered}; agreed {agreed}" if agreed else f"offered {offered}; what the peer would take only its log tells"


def _peer(answer: TrialAnswer) -> str:
    if answer.remote_id is not None:
        return f"{answer.remote_id}, proven"
    return f"expected {answer.expected_id or 'as its address'}; not proven"


def _certificate(one: TrialCertificate) -> str:
    fault = f": {one.fault}" if one.fault else ""
    return f"{one.subject}, by {one.issuer}, valid from {one.valid_from} to {one.valid_until}{fault}"
