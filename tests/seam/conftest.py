# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds the library once a session and finds the reference data."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from .binding import REPO, Library
from .machine import INFO, RD, RDALL, Host
from .model import ModelLibrary
from .model_metadata import CPUID_CONFIG_AT, CPUID_CONFIG_BYTES, Unspecified
from .model_pseamldr import INFO_BYTES as SEAMLDR_INFO_BYTES
from .model_pseamldr import SEAMLDR_INFO
from .model_reference import load
from .model_steps import Calls

# How long an example takes says more about the machine than about the library; what is
# tried is the same each time. Modules and fixtures that tests share keep no state that counts.
settings.register_profile(
    "seam", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
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


@pytest.fixture(scope="session")
def model(library: Library, tdx_abi: Path) -> ModelLibrary:
    """The model; what the reference leaves to the build is taken from the library."""
    host = Host(library)
    host.lp_init_all()
    host.seamcall(INFO, rcx=0x1000, rdx=1024, r8=0x2000, r9=32)
    info = host.machine.memory.read(0x1000 + CPUID_CONFIG_AT, CPUID_CONFIG_BYTES)
    host.seamcall(SEAMLDR_INFO, rcx=0x3000)
    unspecified = Unspecified(
        element=lambda field: host.seamcall(RD, rdx=field)["r8"],
        info_cpuid_config=info,
        seamldr_info=host.machine.memory.read(0x3000, SEAMLDR_INFO_BYTES),
    )
    return ModelLibrary(load(tdx_abi), unspecified)


@pytest.fixture(scope="session")
def calls(model: ModelLibrary) -> Calls:
    return Calls([field.id for field in model.reference.fields])


@pytest.fixture(scope="session")
def late_calls(model: ModelLibrary) -> Calls:
    """For later modules, whose field table the reference does not have."""
    return Calls([field.id for field in model.reference.fields], without=[RD, RDALL, INFO])
