# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs inside the virtual machine: its first process and the agent."""
