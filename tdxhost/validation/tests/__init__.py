# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests of the suite, by what they are about."""
