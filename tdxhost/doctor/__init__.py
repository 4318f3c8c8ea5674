# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a host is able to run TDX, check by check: one file for each area."""
