# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel module that repeats SEAMCALLs in the guest, as fast as it can."""
