# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost status: where things stand."""

import argparse

from tdxhost.cli.context import Context, add_from
from tdxhost.errors import DriverDenied, ExitCode
from tdxhost.host import Host

#: As in context.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from tdxhost.documents import Document
    from tdxhost.findings import Verdict
    from tdxhost.state import State

DESCRIPTION = """\
Shows where the TDX module, every CPU and every step of the bring-up stand. Does nothing
to them. Exits with 1 when the module or a CPU failed, with 3 when this host has no TDX."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --from."""
    add_from(parser)


def run(context: Context) -> ExitCode:
    """Shows the state."""
    try:
        with context.open_source() as driver:
            from tdxhost.bringup import read_state

            state = context.complete(read_state(driver))
    except DriverDenied as error:
        raise DriverDenied(error.message, _hint(error, context.host)) from error
    from tdxhost.cli.state_blocks import state_blocks

    verdict = context.judge.state(state)
    return context.finish(
        verdict,
        lambda: _document(context, state, verdict),
        lambda: state_blocks(context.judge, state),
    )


def _document(context: Context, state: "State", verdict: "Verdict") -> "Document":
    from tdxhost.documents import state_document

    return state_document(context.judge, state, verdict)


def _hint(error: DriverDenied, host: Host) -> str:
    """What to do, and what the driver shows to everyone."""
    from tdxhost.kernel import public_state

    public = [f"{name.replace('_', ' ')} {value}" for name, value in public_state(host).items()]
    if not public:
        return error.hint
    return f"{error.hint}\n  What everyone may see: {', '.join(public)}"
