# SPDX-License-Identifier: GPL-2.0-or-later
"""vtdx: a virtual TDX-capable Xeon on an unmodified QEMU."""
