# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots virtual TDX hosts and runs commands in them."""
