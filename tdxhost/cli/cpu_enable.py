# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost cpu-enable: enables CPUs one by one."""

import argparse

from tdxhost.bringup import choose_cpus, enable_cpus
from tdxhost.cli.context import Context
from tdxhost.cli.state_blocks import cpu_enable_blocks
from tdxhost.documents import cpus_document
from tdxhost.errors import ExitCode
from tdxhost.findings import combine
from tdxhost.topology import Topology, cpus_or_usage

DESCRIPTION = """\
Enables CPUs for TDX one after the other: pins itself to each and makes the driver's call
there. The TDX module as a whole stays as it is. Needs root."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --cpus."""
    parser.add_argument(
        "--cpus",
        metavar="LIST",
        help="CPUs such as 0-3,8 (default: every online CPU of the caller's cpuset)",
    )


def run(context: Context) -> ExitCode:
    """Enables the CPUs."""
    text = context.arguments.cpus
    wanted = None if text is None else cpus_or_usage(text)
    with context.open_driver() as driver:
        info = driver.get_info()
        verdict = context.judge.host(info)
        cpus = choose_cpus(wanted, Topology())
        results = [] if verdict else enable_cpus(driver, cpus)
    verdict = combine(verdict, context.judge.cpus(results))
    return context.finish(
        verdict,
        lambda: cpus_document(context.judge, info, results, verdict),
        lambda: cpu_enable_blocks(context.judge, info, results),
    )
