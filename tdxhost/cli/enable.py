# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost enable: brings TDX up."""

import argparse

from tdxhost import bringup
from tdxhost.cli.context import Context
from tdxhost.cli.progress import Progress
from tdxhost.cli.state_blocks import state_blocks
from tdxhost.cli.tables import Block
from tdxhost.documents import state_document
from tdxhost.errors import ExitCode, Interrupted
from tdxhost.findings import interrupted
from tdxhost.records import ModuleStatus
from tdxhost.state import State
from tdxhost.times import Times

DESCRIPTION = """\
Enables every online CPU, initialises the TDX module, and shows what came of it. Where that
was done before, it does nothing and succeeds. After Ctrl-C, the next call goes on. Needs root."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --retry and --skip-non-cmr."""
    parser.add_argument(
        "--retry",
        action="store_true",
        help="after a failure, go on at the step that failed, where the TDX module allows it; "
        "without one, nothing changes",
    )
    parser.add_argument(
        "--skip-non-cmr",
        action="store_true",
        help="leave System RAM outside convertible memory to the kernel, and go on; it can't be "
        "given to a TD",
    )


def run(context: Context) -> ExitCode:
    """Brings TDX up."""
    state = context.complete(_enable(context))
    verdict = context.judge.state(state)
    return context.finish(
        verdict,
        lambda: state_document(context.judge, state, verdict),
        lambda: [*state_blocks(context.judge, state), *_times(state)],
    )


def _times(state: State) -> list[Block]:
    """The line that says whether it could have been faster."""
    times = Times.of(state.steps)
    done = state.module.module_status is ModuleStatus.INITIALIZED
    return ["", str(times)] if times and done else []


def _enable(context: Context) -> State:
    given = context.arguments
    with context.open_driver() as driver:
        try:
            with Progress(context.open_driver):
                return bringup.enable(driver, retry=given.retry, skip_non_cmr=given.skip_non_cmr)
        except KeyboardInterrupt:
            found = interrupted(driver.get_status(), skip_non_cmr=given.skip_non_cmr)
            raise Interrupted(found.message, found.hint) from None
