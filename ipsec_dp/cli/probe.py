"""The verb `probe`: what a gateway answers to the first messages of IKE. It needs no gateway of ours, and disturbs none."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Final

import click

from ipsec_dp.cli.options import examples, heed_interrupts, json_option, loading, say, show_json
from ipsec_dp.cli.patience import patience

if TYPE_CHECKING:
    from ipsec_dp.ike.survey import Question, Survey
    from ipsec_dp.ipsec.addresses import Address

NON_ESP_MARKER: Final = bytes(4)  # RFC 3948 §2.2
PORTS: Final = {False: 500, True: 4500}
DATAGRAM: Final = 65535
SO_MARK: Final = 36


@click.command(epilog=examples("ipsec-dp probe vpn.example.net", "ipsec-dp probe 192.0.2.2 --json"))
@click.argument("host")
@json_option
def probe(host: str, as_json: bool) -> int:
    """Ask the gateway HOST which IKE it speaks, and with what.

    It authenticates nothing and sets nothing up. Some thirty small datagrams, three a second at most, to one host: a peer of
    your own, whose log will show them. It ends with a [[tunnel]] that would fit. Exit status 0 where HOST speaks IKE, else 1.
    """
    heed_interrupts()
    with loading():
        from ipsec_dp.cli import probe_view
        from ipsec_dp.cli.lone_trial import resolved, source_towards
        from ipsec_dp.ike.actions import Endpoint, Path
        from ipsec_dp.ike.survey import Survey
        from ipsec_dp.ike.v1.survey import Ikev1Survey
        from ipsec_dp.ike.v2.survey import Ikev2Survey
    address = resolved(host)[0]
    local = source_towards(address)
    with ProbeSockets(local, address) as sockets:
        path = Path(Endpoint(local, sockets.port(natt=False)), Endpoint(address, PORTS[False]))
        ikev2, ikev1 = Ikev2Survey(path, os.urandom), Ikev1Survey(os.urandom)
        with patience(f"asking {address}, slowly"):
            trouble = _ask(Survey((ikev2.interview(), ikev1.interview())), sockets)
        source = f"{local} port {path.local.port}"
    found = host, address, source, ikev2.found, ikev1.found, trouble
    if as_json:
        show_json(probe_view.fields(*found), 2)
    else:
        for part in probe_view.lines(*found):
            for line in part.split("\n"):
                say(line, whole=True)
    return 0 if ikev2.found.spoken or ikev1.found.spoken else 1


class ProbeSockets:
    """From ports 500 and 4500 where they are free and permitted, else from others; connected, so that nobody else is heard."""

    def __init__(self, local: Address, remote: Address) -> None:
        self._sockets = {natt: _connected(local, remote, port) for natt, port in PORTS.items()}

    def __enter__(self) -> ProbeSockets:  # noqa: PYI034 - it is this one
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets.values():
            each.close()

    def port(self, *, natt: bool) -> int:
        """That they are sent from."""
        return int(self._sockets[natt].getsockname()[1])

    def send(self, question: Question) -> str | None:
        """What this host or the peer's says against it."""
        try:
            self._sockets[question.natt].send(NON_ESP_MARKER * question.natt + question.datagram)
        except OSError as error:
            return _trouble(error, question.natt)
        return None

    def receive(self, seconds: float) -> tuple[bytes, bool] | str | None:
        """A datagram, and whether it came to port 4500; what is wrong; None: nothing came."""
        ready, _, _ = select.select(list(self._sockets.values()), [], [], max(seconds, 0.0))
        for natt, each in self._sockets.items():
            if each in ready:
                try:
                    datagram = each.recv(DATAGRAM)
                except OSError as error:
                    return _trouble(error, natt)
                if not natt:
                    return datagram, False
                if datagram.startswith(NON_ESP_MARKER):
                    return datagram[len(NON_ESP_MARKER) :], True
        return None


def _connected(local: Address, remote: Address, port: int) -> socket.socket:
    family = socket.AF_INET if local.version == 4 else socket.AF_INET6
    for source in (port, 0):
        made = socket.socket(family, socket.SOCK_DGRAM)
        try:
            _mark(made)
            made.bind((str(local), source))
            made.connect((str(remote), port))
        except OSError:
            made.close()
            if source == 0:
                raise
        else:
            return made
    raise AssertionError("the last try returns or raises")


def _mark(made: socket.socket) -> None:
    """So that no tunnel of ours carries it; who may not has none."""
    from ipsec_dp.host import MARK

    with contextlib.suppress(PermissionError):
        made.setsockopt(socket.SOL_SOCKET, SO_MARK, MARK)


def _trouble(error: OSError, natt: bool) -> str:
    from ipsec_dp.host import sockets
    from ipsec_dp.host.unreachable import REASONS

    if isinstance(error, ConnectionRefusedError):
        return f"UDP port {PORTS[natt]}: {REASONS[4][3]} (an ICMP message, not authenticated)"
    return f"this host refuses to send: {sockets.refusal(error.errno or 0) or error.strerror}"


def _ask(survey: Survey, sockets: ProbeSockets) -> str | None:
    """Everything, until it is over; the last that stood in the way."""
    trouble: str | None = None
    while not survey.over:
        now = time.monotonic()
        question = survey.next(now)
        if question is not None:
            trouble = sockets.send(question) or trouble
            continue
        came = sockets.receive(survey.next_timeout() - now)
        if isinstance(came, str):
            trouble = came
        elif came is not None:
            survey.receive(came[0], natt=came[1])
    return trouble
