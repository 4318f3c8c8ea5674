# SPDX-License-Identifier: GPL-2.0-or-later
"""The validation suite: the same tests on every machine, from a plan, with results to file.

What tests are written with is here, for the suite's own and for a lab's (``--tests DIR``):
each test is a pytest function with ``@requirement(…)``, and takes fixtures of plugin.py.
"""

from tdxhost.validation.options import Option, at_least, duration, one_of
from tdxhost.validation.requirement import could_not_run, not_applicable, requirement
from tdxhost.validation.result import Unit
from tdxhost.validation.stage import Stage

__all__ = [
    "Option",
    "Stage",
    "Unit",
    "at_least",
    "could_not_run",
    "duration",
    "not_applicable",
    "one_of",
    "requirement",
]
