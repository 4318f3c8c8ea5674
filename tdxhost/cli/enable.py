# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost enable: brings TDX up."""

import argparse

from tdxhost import bringup
from tdxhost.cli.context import Context
from tdxhost.cli.documents import state_document
from tdxhost.cli.progress import Progress
from tdxhost.cli.state_blocks import state_blocks
from tdxhost.errors import ExitCode

NAME = "enable"
HELP = "enable every online CPU and initialise the TDX module"
DESCRIPTION = """\
Enables every online CPU, initialises the TDX module, and shows what came of it. Where that
was done before, it does nothing and succeeds. Needs root."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --retry."""
    parser.add_argument(
        "--retry",
        action="store_true",
        help="after a failure, go on at the step that failed, where the TDX module allows it",
    )


def run(context: Context) -> ExitCode:
    """Brings TDX up."""
    with context.open_driver() as driver, Progress(context.open_driver):
        state = bringup.enable(driver, retry=context.arguments.retry)
    verdict = bringup.judge_state(context.judge, state)
    return context.finish(
        verdict,
        lambda: state_document(context.judge, state, verdict),
        lambda: state_blocks(context.judge, state),
    )
