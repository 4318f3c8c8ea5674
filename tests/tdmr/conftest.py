# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles kmod/tdmr*.c for user space, once a session."""

from __future__ import annotations

import os
import subprocess

import pytest

from .layout import KMOD, Library


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    out = tmp_path_factory.mktemp("tdmr") / "libtdmr.so"
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-g", "-fPIC", "-shared"]
    command += ["-Wall", "-Wextra", "-Werror", f"-I{KMOD / 'shim'}"]
    sources = [str(path) for path in sorted(KMOD.glob("tdmr*.c"))]
    subprocess.run([*command, "-o", str(out), *sources], check=True)
    return Library(out)
