# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the library once a session and finds the reference data."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

from .binding import REPO, Library

# How long an example takes says more about the machine than about the library.
settings.register_profile("seam", deadline=None)
settings.load_profile("seam")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    out = tmp_path_factory.mktemp("seam")
    subprocess.run(
        ["make", "-s", "-C", str(REPO / "vtdx" / "seam"), f"O={out}", "CC=gcc"], check=True
    )
    return Library(out / "libseam.so")


def find_shared() -> Path | None:
    """The folder with reference and vectors: TDXHOST_SHARED, or beside the checkout."""
    path = Path(os.environ.get("TDXHOST_SHARED", REPO.parent / "shared"))
    return path if (path / "tdx-abi").is_dir() else None


@pytest.fixture(scope="session")
def tdx_abi() -> Path:
    shared = find_shared()
    if shared is None:
        pytest.skip("no reference data: set TDXHOST_SHARED to the folder that has tdx-abi/")
    return shared / "tdx-abi"
