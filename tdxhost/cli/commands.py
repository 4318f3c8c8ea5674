# SPDX-License-Identifier: GPL-2.0-or-later
"""The sub-commands, and what tdxhost --help says of each.

Here and not in their modules, of which --help loads none: all of them take longer to load than
most take to run.
"""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

#: Name to help; the module is that of the name, with _ for -.
COMMANDS: Mapping[str, str] = {
    "doctor": "say whether this host is able, and if not, what has to change where",
    "enable": "enable every online CPU and initialise the TDX module",
    "status": "show where the TDX module and every CPU stand",
    "cpu-enable": "enable CPUs one by one, each by a call made on it",
    "info": "show the TDX module's version, features and metadata",
    "memory": "show convertible memory, TDX memory, TDMRs and PAMTs",
    "decode": "say what a SEAMCALL status, an MSR value or a kernel log means",
    "report": "write all that there is to say of this host into one page, or a bundle for a bug "
    "report",
    "compare": "say what differs between two hosts, or a host and a bundle of it",
    "trace": "show every SEAMCALL of the driver's as it happens",
    "watch": "follow changes: the driver and the TDX module, CPUs, memory",
    "validate": "run a plan of tests on this host, and file the results",
}


def load(command: str) -> ModuleType:
    """The module of a sub-command: DESCRIPTION, add_arguments(parser), run(context)."""
    return import_module(f"tdxhost.cli.{command.replace('-', '_')}")
