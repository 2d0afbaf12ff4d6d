"""What a shell completes: the script that asks this program, and the names of tunnels, which the running gateway knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from ipsec_dp.cli.asking import ask, read
from ipsec_dp.cli.options import examples
from ipsec_dp.errors import IpsecDpError
from ipsec_dp.gateway import messages
from ipsec_dp.gateway.status import GatewayStatus

if TYPE_CHECKING:
    from typing import Any

SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
PROGRAM: Final = "ipsec-dp"
ASKS_BY: Final = "_IPSEC_DP_COMPLETE"  # the variable by which a script asks; click's name for it
WAITS_S: Final = 1.0  # for a gateway: whoever presses Tab waits for nothing longer


@click.command(
    epilog=examples(
        "ipsec-dp completion bash > /etc/bash_completion.d/ipsec-dp",
        'eval "$(ipsec-dp completion zsh)"                                  in ~/.zshrc',
        "ipsec-dp completion fish > ~/.config/fish/completions/ipsec-dp.fish",
    )
)
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print what makes SHELL complete verbs, options and tunnels."""
    click.echo(SHELLS[shell](ctx.find_root().command, {}, PROGRAM, ASKS_BY).source())
    return 0


def tunnel_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Those of the running gateway that begin so; none where it cannot be asked."""
    control: Any = ctx.params.get("control")
    try:
        answer = ask(None if control is None else Path(control), messages.StatusRequest(), WAITS_S)
        tunnels = read(answer, GatewayStatus).tunnels
    except (IpsecDpError, click.ClickException):
        return []
    return [tunnel.name for tunnel in tunnels if tunnel.name.startswith(incomplete)]
