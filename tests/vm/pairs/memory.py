# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory, metadata, hotplug, the log, soak: what makes their tests fail."""

from __future__ import annotations

from tests.vm.pairs.pair import table

PAIRS = table()
