# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the seam library, through its C ABI."""
