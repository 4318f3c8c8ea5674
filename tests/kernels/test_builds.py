# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver against the headers of every kernel there is, without a warning."""

from __future__ import annotations

from tests.kernels.selection import each
from vtdx.vm import build, kernels

DEBIAN = [name for name in kernels.releases() if name not in kernels.built()]


def test_the_list_is_what_debian_has() -> None:
    """bookworm, trixie, forky and trixie-backports, and the -rt flavour of each."""
    series = ["6.1", "6.12", "7.2", "7.3"]
    assert sorted(DEBIAN) == sorted([*series, *(f"{name}-rt" for name in series)])


@each(DEBIAN, always=["6.1", "7.3"])
def test_the_driver_builds_without_a_warning(kernel: str) -> None:
    # A warning is a failure to build.module().
    assert build.driver(kernels.find(kernel), "W=1").stat().st_size
