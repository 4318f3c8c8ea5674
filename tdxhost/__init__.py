# SPDX-License-Identifier: GPL-2.0-or-later
"""Brings up Intel TDX on a Linux host and shows what happened."""

__version__ = "0.1.0"
