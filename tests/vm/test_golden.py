# SPDX-License-Identifier: GPL-2.0-or-later
"""The recordings that unit tests read are what the machines are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tdxhost.doctor.diagnosis import diagnose
from tdxhost.doctor.facts import Facts
from tdxhost.recording import Recording, recorded_driver, recorded_host
from tests import golden
from tests.vm.hosts import Boot
from vtdx.vm import kernels


def _diagnosis(recording: Recording) -> list[Any]:
    """What doctor finds, by check; addresses and free memory differ from boot to boot."""
    facts = Facts(recorded_host(recording), lambda: recorded_driver(recording))
    results = diagnose(facts).results
    return [(it.check.id, it.outcome, sorted(it.found.cpus)) for it in results]


def _asked(recording: Recording) -> set[str]:
    """What was asked of the host; Debian's kernel is of another release by and by."""
    release = recording.answers["data /proc/sys/kernel/osrelease"]["text"].strip()
    return {key.replace(release, "RELEASE") for key in recording.answers}


@pytest.mark.parametrize(
    "name",
    [
        name if name == "spr-2s" else pytest.param(name, marks=pytest.mark.slow)
        for name in golden.names()
    ],
)
def test_a_machine_is_as_its_recording(boot: Boot, tmp_path: Path, name: str) -> None:
    with boot(name) as host:
        fresh = golden.record(host, tmp_path)
    kept = Recording.load(golden.path_of(name))
    assert _diagnosis(fresh) == _diagnosis(kept)
    if kernels.default() == kernels.DEFAULT:
        assert _asked(fresh) == _asked(kept)
