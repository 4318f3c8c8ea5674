# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine and its times: what makes their tests fail."""

from __future__ import annotations

from tests.vm.pairs.pair import table

PAIRS = table()
