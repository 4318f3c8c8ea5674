# SPDX-License-Identifier: GPL-2.0-or-later
"""The command tdxhost: one file per sub-command."""
