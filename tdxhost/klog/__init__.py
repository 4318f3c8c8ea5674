# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel logs: their lines about TDX, and what these come to."""
