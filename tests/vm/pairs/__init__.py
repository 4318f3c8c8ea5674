# SPDX-License-Identifier: GPL-2.0-or-later
"""What makes each test of the validation suite fail: a fault of vtdx, or a driver that is wrong."""
