# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts that tests run inside the virtual machine."""
