# SPDX-License-Identifier: GPL-2.0-or-later
"""How long bring-up took, against the longest chain of SEAMCALLs."""

from __future__ import annotations

from dataclasses import asdict

from tdxhost.abi import lib
from tdxhost.records import Step, StepResult
from tdxhost.times import Times
from tests.unit.samples import step

MS = 1_000_000
STEPS = (
    step(Step.PLATFORM, duration_ns=1 * MS),
    step(Step.CPUS, duration_ns=4 * MS, chain_ns=3 * MS),
    step(Step.TDMR_INIT, duration_ns=10 * MS, chain_ns=9 * MS),
)


def test_times_are_those_of_all_steps() -> None:
    assert Times.of(STEPS) == Times(total_ns=15 * MS, critical_path_ns=12 * MS)


def test_a_step_that_never_ran_does_not_count() -> None:
    unrun = step(Step.KEY_CONFIG, runs=0, duration_ns=MS, chain_ns=MS)
    assert Times.of((*STEPS, unrun)) == Times.of(STEPS)


def test_the_line_has_total_critical_path_and_their_ratio() -> None:
    assert str(Times.of(STEPS)) == (
        "It took 15 ms; critical path 12 ms (SEAMCALLs that have to follow one another); ratio 1.25"
    )


def test_nothing_is_said_where_the_kernel_made_the_seamcalls() -> None:
    assert Times.of([step(Step.KERNEL, flags=lib.TDXHOST_STEPF_BY_KERNEL)]) is None
    assert Times.of([*STEPS, step(Step.KERNEL, flags=lib.TDXHOST_STEPF_BY_KERNEL)]) is None


def test_nothing_is_said_where_the_driver_knows_no_chains() -> None:
    assert Times.of([step(Step.CPUS)]) is None
    assert Times.of([]) is None


def test_a_recording_that_is_older_than_chains_is_read() -> None:
    members = asdict(step(Step.CPUS, chain_ns=MS))
    del members["chain_ns"]
    assert StepResult.of(members) == step(Step.CPUS)
