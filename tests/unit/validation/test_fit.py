# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine is told to be another than the plan's by everything in which it differs."""

from dataclasses import replace

import pytest

from tdxhost.validation.fit import fit
from tdxhost.validation.plan import Machine, Versions
from tests.unit.machines import facts, fake_host
from tests.unit.samples import GIB, INFO, FakeDriver

#: fake_host() has two packages of two CPUs, and this much in /proc/iomem; INFO has the rest.
RAM = 0x9F000 + 0x7FF00000 + 0x80000000
THIS = Machine(
    packages=2,
    cpus=4,
    keyids=32,
    module=Versions.parse(">=1.5.06, <2.0.0"),
    memory_bytes=RAM,
)


def differences(machine: Machine, driver: FakeDriver | None = None) -> tuple[str, ...]:
    """In what the sample host differs; all can be known of it."""
    found = fit(machine, facts(fake_host(), driver or FakeDriver()))
    assert found.unknown == ()
    return found.differences


def test_the_machine_that_a_plan_states_fits() -> None:
    assert differences(THIS) == ()


def test_a_plan_that_states_nothing_fits_every_machine() -> None:
    assert fit(Machine(), facts(fake_host(), None)).differences == ()
    assert fit(Machine(), facts(fake_host(), None)).unknown == ()


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        (Machine(packages=4), "packages with an online CPU: 4 expected, 2 found"),
        (Machine(cpus=5), "online CPUs: 5 expected, 4 found"),
        (Machine(cpus=3), "online CPUs: 3 expected, 4 found"),
        (Machine(keyids=64), "private KeyIDs: 64 expected, 32 found"),
        (
            Machine(module=Versions.parse(">=1.5.07, <2.0.0")),
            "version of the TDX module: >=1.5.07, <2.0.0 expected, 1.5.06 found",
        ),
        (Machine(memory_bytes=8 * GIB), "System RAM: at least 8.0 GiB expected, 4.0 GiB found"),
    ],
)
def test_what_differs_is_told_as_expected_and_found(machine: Machine, told: str) -> None:
    assert differences(machine) == (told,)


def test_one_byte_less_than_the_least_memory_is_a_difference() -> None:
    assert len(differences(Machine(memory_bytes=RAM + 1))) == 1
    assert differences(Machine(memory_bytes=RAM)) == ()


def test_all_differences_are_told_at_once() -> None:
    other = Machine(
        packages=1, cpus=1, keyids=1, module=Versions.parse("9.9.9"), memory_bytes=1 << 50
    )
    assert len(differences(other)) == 5


def test_a_host_without_private_keyids_has_none() -> None:
    driver = FakeDriver(info=replace(INFO, valid=2, nr_keyids=0))
    assert differences(THIS, driver) == ("private KeyIDs: 32 expected, 0 found",)


def test_a_version_that_nobody_has_read_is_not_known() -> None:
    driver = FakeDriver(info=replace(INFO, valid=1))
    found = fit(replace(THIS, cpus=5), facts(fake_host(), driver))
    assert found.differences == ("online CPUs: 5 expected, 4 found",)
    (unknown,) = found.unknown
    assert unknown.startswith("version of the TDX module: not known")
    assert "behind enable.all" in unknown


def test_memory_that_only_root_sees_is_not_known() -> None:
    found = fit(Machine(memory_bytes=1), facts(fake_host(root=False), FakeDriver()))
    assert found.differences == ()
    assert found.unknown == (
        "System RAM: not known: /proc/iomem: shows addresses to root alone (Run it as root.)",
    )
