# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/ansible on three virtual hosts: what it collects, and that no host is taken for well.

tdxhost is installed in the hosts' disk on this machine, as in test_install.py, and the role finds
it there; the last test lets the role install it on a host, and reboot that. All of it is slow:
what Ansible puts on three hosts and runs there costs an emulator minutes.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scripts.ansible import sources
from scripts.ansible.table import Host, read_hosts
from tests.vm.fleet import Fleet, fleet
from tests.vm.installed import CHECKOUT, TRIXIE, WHEELS, HostRoot, host_root, wheels
from vtdx.vm import build, platform

pytestmark = pytest.mark.slow

# Of the plan smoke, what comes to a different end on the faulty host.
ONLY = ("cpus.partial", "cpus.rest")

TWO_BOOTS = """\
schema: tdxhost-plan/1
name: fleet
about: Two boots of what every host has to pass.
boots:
  - name: step-by-step
    about: Some CPUs, then the rest.
    tests: [cpus.partial, cpus.rest]
  - name: at-once
    about: All CPUs at once.
    tests:
      - cpus.enable: {order: at-once}
"""

# CPU 1 does not come up, in whatever way it is asked.
FAULT = "TDH.SYS.LP.INIT cpu=1 status=TDX_INCONSISTENT_MSR detail=0x10a"

PLAY_SECONDS = 900.0
# Looking costs an emulator seconds.
POLL_SECONDS = 30
INSTALL_SECONDS = 1800.0

INSTALL = f"{CHECKOUT}/scripts/install"
STEPS = tuple(f"step-by-step/{name}" for name in ONLY)
INSTALLS = "TASK [tdxhost : Run scripts/install]"
SUM = "/usr/local/lib/tdxhost/current/sources.sum"


@dataclass(frozen=True)
class Played:
    """A fleet on which the playbook has run, and what came of it."""

    fleet: Fleet
    ran: subprocess.CompletedProcess[str]

    def host(self, name: str) -> Host:
        """What was collected of a host."""
        (found,) = (host for host in read_hosts(self.fleet.results) if host.name == name)
        return found

    def outcomes(self, name: str) -> dict[str, str]:
        """Outcomes of a host's tests by boot and id."""
        return {f"{one.boot}/{one.title}": one.outcome for one in self.host(name).tests}

    def recap(self, name: str) -> dict[str, int]:
        """What Ansible counted for a host."""
        found = re.search(rf"^{name} +: (.*)$", self.ran.stdout, re.MULTILINE)
        assert found, self.ran.stdout
        return {word: int(number) for word, number in re.findall(r"(\w+)=(\d+)", found[1])}


def install(root: HostRoot) -> None:
    """Does on this machine, in a host's disk, what the role would do on the host."""
    ran = root.run(INSTALL, "--wheels", WHEELS, "--kernel", root.kernel.release)
    assert ran.returncode == 0, ran.stderr
    total = sources.sum_of(sources.files(build.PROJECT, wheels(TRIXIE.python)))
    root.sh(f"echo {total} >{SUM}").check_returncode()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Three hosts, one of them with a fault, after the playbook."""
    folder = tmp_path_factory.mktemp("fleet")
    platforms = {
        "one-socket": platform.load("spr-1s", cpus=2),
        "two-sockets": platform.load("spr-2s", cpus=2),
        "faulty": platform.load("spr-2s", cpus=2, faults=(FAULT,)),
    }
    with host_root(TRIXIE, folder) as root:
        install(root)
        with fleet(root, folder, platforms) as up:
            ran = up.play(
                timeout=PLAY_SECONDS,
                tdxhost_plan="smoke",
                tdxhost_only=list(ONLY),
                tdxhost_wheels=str(wheels(TRIXIE.python)),
                tdxhost_seed="7",
                tdxhost_poll_seconds=POLL_SECONDS,
            )
            yield Played(up, ran)


def test_hosts_that_are_well_pass(played: Played) -> None:
    for name in ("one-socket", "two-sockets"):
        assert played.host(name).passed, played.ran.stdout
        assert played.outcomes(name) == dict.fromkeys(STEPS, "passed")
        assert played.recap(name)["failed"] == 0


def test_the_faulty_host_is_told_apart_with_the_test_that_failed(played: Played) -> None:
    assert not played.host("faulty").passed
    assert played.outcomes("faulty")["step-by-step/cpus.rest"] == "failed"
    assert played.recap("faulty")["failed"] == 1


def test_a_host_that_cant_be_reached_is_shown_as_such(played: Played) -> None:
    gone = played.host("gone")
    assert (gone.outcome, gone.tests) == ("unreachable", ())
    assert "Connection refused" in gone.message


def test_the_table_and_the_exit_code_say_which_hosts_are_not_well(played: Played) -> None:
    lines = [line.strip(' ",').split() for line in played.ran.stdout.splitlines()]
    assert ["TEST", "faulty", "gone", "one-socket", "two-sockets"] in lines
    assert ["cpus.partial", "passed", "-", "passed", "passed"] in lines
    assert ["cpus.rest", "FAILED", "-", "passed", "passed"] in lines
    assert ["HOST", "FAILED", "UNREACHABLE", "passed", "passed"] in lines
    assert played.ran.returncode == 2


@pytest.mark.parametrize("name", ["two-sockets", "faulty"])
def test_everything_is_collected_of_hosts_that_ran(played: Played, name: str) -> None:
    folder = played.fleet.results / name
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    cases = ElementTree.parse(folder / "junit.xml").getroot().iter("testcase")
    assert result["plan"]["name"] == "smoke"
    assert result["seed"] == 7
    assert len(list(cases)) == len(result["tests"]) == len(STEPS)
    assert "</html>" in (folder / "report.html").read_text(encoding="utf-8")


def test_what_is_installed_already_is_not_installed_again(played: Played) -> None:
    assert INSTALLS not in played.ran.stdout


def test_a_host_is_installed_once_and_rebooted_as_far_as_that_is_allowed(tmp_path: Path) -> None:
    platforms = {"bare": platform.load("spr-2s", cpus=4)}
    with (
        host_root(TRIXIE, tmp_path) as root,
        fleet(root, tmp_path, platforms, keep=["bare"]) as up,
    ):
        (tmp_path / "plan.yaml").write_text(TWO_BOOTS, encoding="utf-8")
        options: dict[str, Any] = {
            "tdxhost_plan": "plan.yaml",
            "tdxhost_wheels": str(wheels(TRIXIE.python)),
        }
        first = Played(up, up.play(timeout=INSTALL_SECONDS, tdxhost_reboot=True, **options))
        last = "at-once/cpus.enable (order=at-once)"
        assert INSTALLS in first.ran.stdout, first.ran.stdout
        assert first.outcomes("bare") == dict.fromkeys([*STEPS, last], "passed")
        assert up.members[0].boots == 2
        second = Played(up, up.play(timeout=PLAY_SECONDS, **options))
        assert INSTALLS not in second.ran.stdout
        assert second.host("bare").outcome == "unfinished"
        # TDX is up since the first run, and another boot of the plan is due behind that.
        waiting = dict.fromkeys(STEPS, "needs-reboot") | {last: "not-run"}
        assert second.outcomes("bare") == waiting
        assert up.members[0].boots == 2
