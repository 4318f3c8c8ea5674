# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmarks: scripts/bench runs them, no test does."""
