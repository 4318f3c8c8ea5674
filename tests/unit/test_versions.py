# SPDX-License-Identifier: GPL-2.0-or-later
"""Driver and package are of one version, which is written down twice."""

import re
import subprocess
from pathlib import Path

import pytest

import tdxhost

DKMS_CONF = Path(__file__).resolve().parents[2] / "kmod/dkms.conf"

# Of Debian bookworm, trixie, trixie-backports and forky, and 6.8 to 7.1 between them.
SUPPORTED = ["6.1.0-56-amd64", "6.8.0", "6.12.118+deb13-amd64", "6.12.118+deb13-rt-amd64"]
SUPPORTED += ["6.19.1", "7.0.0", "7.2.6+deb13-amd64", "7.3.4+deb13-amd64", "10.0.1"]
OLDER = ["5.10.0-30-amd64", "6.0.12", "4.19.0", "2.6.32"]


def _conf(variable: str) -> str:
    """A variable of dkms.conf, as DKMS reads it: with bash."""
    script = f'. "$1"; printf %s "${{{variable}}}"'
    command = ["bash", "-c", script, "bash", str(DKMS_CONF)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_dkms_and_the_package_have_the_same_version() -> None:
    assert _conf("PACKAGE_VERSION") == tdxhost.__version__


def _matches(release: str) -> bool:
    pattern = _conf("BUILD_EXCLUSIVE_KERNEL")
    script = "[[ $1 =~ $2 ]]"
    return not subprocess.run(
        ["bash", "-c", script, "bash", release, pattern], check=False
    ).returncode


@pytest.mark.parametrize("release", SUPPORTED)
def test_dkms_builds_for_every_kernel_from_6_1_on(release: str) -> None:
    assert _matches(release)


@pytest.mark.parametrize("release", OLDER)
def test_dkms_builds_for_no_older_kernel(release: str) -> None:
    assert not _matches(release)


def test_dkms_builds_the_driver_by_itself_for_new_kernels() -> None:
    assert _conf("AUTOINSTALL") == "yes"
    assert _conf("BUILT_MODULE_NAME[0]") == "tdxhost"
    assert re.search(_conf("BUILD_EXCLUSIVE_ARCH"), "x86_64")
