# SPDX-License-Identifier: GPL-2.0-or-later
"""Many callers at once: the program that makes them, and what vtdx's log has to show."""
