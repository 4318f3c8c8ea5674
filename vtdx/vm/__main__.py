# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m vtdx.vm``, which is what scripts/vm runs."""

from vtdx.vm.cli import main

raise SystemExit(main())
