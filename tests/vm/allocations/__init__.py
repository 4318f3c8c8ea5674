# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocations of the driver: watched, and made to fail."""
