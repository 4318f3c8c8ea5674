# SPDX-License-Identifier: GPL-2.0-or-later
"""tdxhost validate --reboot on a Debian host that its own systemd runs, reboots and a crash.

QEMU ends where the machine is reset; the next boot is another one with the same disk.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.vm import lab
from tests.vm.hosts import Host, host
from tests.vm.installed import CHECKOUT, TRIXIE, WHEELS, HostRoot, host_root
from vtdx.vm.errors import MachineLost

pytestmark = pytest.mark.slow

PLAN = {
    "first": ["lab.looks", "lab.enable"],
    "second": ["lab.looks", "lab.crashes", "lab.enable"],
    "third": ["lab.looks", "lab.enable"],
}
INIT = Path(__file__).parent / "guest/init-systemd"
UNIT = "tdxhost-validate.service"
WANTED = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
RESULTS = "/root/results"
SECONDS = 600.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostRoot]:
    """A Debian 13 host after scripts/install, with the lab's plan and tests."""
    folder = tmp_path_factory.mktemp("host")
    with host_root(TRIXIE, folder) as made:
        ran = made.run(
            f"{CHECKOUT}/scripts/install", "--wheels", WHEELS, "--kernel", made.kernel.release
        )
        assert ran.returncode == 0, ran.stderr
        made.sh(f"mkdir -p {lab.TESTS}")
        for name, file in lab.write_files(folder, PLAN).items():
            made.put(file, name)
        yield made


@pytest.fixture
def boots(root: HostRoot, tmp_path: Path) -> Boots:
    """That host, to be booted again and again."""
    return Boots(root, tmp_path)


class Boots:
    """Boots of a host whose disk stays."""

    def __init__(self, root: HostRoot, folder: Path) -> None:
        self._root = root
        self._folder = folder

    @contextmanager
    def next(self) -> Iterator[Host]:
        """The machine from a boot to the next; left, it has to be reset by itself."""
        with host(
            self._folder,
            "spr-1s",
            SECONDS,
            cpus=2,
            kernel=self._root.kernel,
            driver=False,
            disk=self._root.disk,
            disk_stays=True,
            extra={f"/usr/lib/vtdx/{INIT.name}": INIT},
            append=f"rdinit=/usr/lib/vtdx/{INIT.name} systemd.mask=getty.target",
        ) as machine:
            yield machine


def await_reset(machine: Host) -> None:
    """Returns once the machine is gone."""
    with suppress(MachineLost):
        machine.run("sleep", str(SECONDS), timeout=SECONDS)
        pytest.fail("the machine was not reset")


def await_unit(machine: Host) -> None:
    """Returns once the unit has ended, which it does not before it has disabled itself."""
    until = time.monotonic() + SECONDS
    running = f"[ -L {WANTED} ] || [ $(systemctl is-active {UNIT}) = activating ]"
    while machine.sh(running).status == 0:
        assert time.monotonic() < until, "the unit goes on and on"
        time.sleep(1)


def test_a_run_goes_through_all_boots_by_itself_and_over_a_crash(boots: Boots) -> None:
    with boots.next() as machine:
        assert machine.run("systemd-analyze", "verify", UNIT).stderr == ""
        assert machine.run("modprobe", "tdxhost").status == 0
        asked = ("validate", lab.PLAN, "--tests", lab.TESTS, "--output", RESULTS, "--reboot")
        with suppress(MachineLost):
            began = machine.run("tdxhost", *asked)
            assert (began.status, "5 tests left: rebooting" in began.stderr) == (1, True), began
            await_reset(machine)
    with boots.next() as machine:
        await_reset(machine)
    with boots.next() as machine:
        await_reset(machine)
    with boots.next() as machine:
        await_unit(machine)
        journal = machine.run("journalctl", "-b", "-u", UNIT).stdout
        run = json.loads(machine.sh(f"cat {RESULTS}/result.json").stdout)
        outcomes = [(test["boot"], test["id"], test["outcome"]) for test in run["tests"]]
        assert outcomes == [
            (name, test, "lost" if test == "lab.crashes" else "passed")
            for name, tests in PLAN.items()
            for test in tests
        ], journal
        assert run["ended_at"], journal
        assert "[7/7] lab.enable: passed" in journal
        assert machine.sh(f"ls {WANTED}").status != 0
        assert machine.run("tdxhost", "validate", "--resume").status == 1
