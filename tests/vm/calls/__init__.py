# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls of /dev/tdxhost by the thousand: what is called, what the header says of it."""
