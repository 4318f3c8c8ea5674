# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the tests of the suite, and of a lab's folder, and starts pytest on them."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest

from tdxhost.errors import TdxHostError, Usage
from tdxhost.validation import tests
from tdxhost.validation.requirement import Requirement, requirement_of

OWN_TESTS = Path(tests.__file__).parent


class Collector:
    """A pytest plugin: names each test after its id, and keeps the requirements."""

    def __init__(self) -> None:
        self.found: dict[str, Requirement] = {}
        self.problems: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Renames the tests, and leaves out what is none of the suite's."""
        for item in list(items):
            requirement = requirement_of(getattr(item, "function", None))
            if requirement is None:
                self.problems.append(f"{item.nodeid} has no @requirement")
                items.remove(item)
            elif requirement.id in self.found:
                self.problems.append(
                    f"{item.nodeid}: there is another test with the id {requirement.id}"
                )
            else:
                self.found[requirement.id] = requirement
                item.name = requirement.id

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keeps what went wrong on the way."""
        if report.failed:
            self.problems.append(report.longreprtext)


def find_tests(folder: Path | None = None) -> dict[str, Requirement]:
    """Requirements by id: the suite's own and those in a lab's folder.

    Usage where the folder is none or has no tests; TdxHostError, with all that is wrong, where
    they can't be read.
    """
    if folder is not None and not folder.is_dir():
        raise Usage(f"--tests {folder}: there is no such folder")
    collector = Collector()
    start(["--collect-only"], [collector], folder)
    if collector.problems:
        raise TdxHostError("\n".join(["the tests can't be used:", *collector.problems]))
    return collector.found


def start(words: Sequence[str], plugins: Sequence[object], folder: Path | None) -> pytest.ExitCode:
    """Runs pytest on the suite's own tests and those of a folder, with nothing but what is named.

    It prints nothing: what it finds and does the plugins tell.
    """
    arguments = [
        *("-c", os.devnull, "--rootdir", str(OWN_TESTS), "--import-mode=importlib"),
        *("-p", "no:cacheprovider", "-p", "no:faulthandler"),
        # Of sys alone: who watches a run writes to the stream as it was.
        *("--capture=sys", "--color=no", "-q"),
        *words,
        str(OWN_TESTS),
        *([str(folder)] if folder else []),
    ]
    with alone(), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        return pytest.ExitCode(pytest.main(arguments, list(plugins)))


@contextmanager
def alone() -> Iterator[None]:
    """Other packages' pytest plugins, options of the environment and bytecode stay out of it."""
    names = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    before = {name: os.environ.pop(name, None) for name in names}
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes
        del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]
        os.environ.update({name: value for name, value in before.items() if value is not None})
