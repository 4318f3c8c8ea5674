# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything at once: many callers, CPUs that come and go, kills, the driver unloaded.

The program that makes the callers (races/) checks each answer by itself and against
those before it; vtdx's log is the witness of what was done (races/invariants.py).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.vm.hosts import Boot, Host, complaints
from tests.vm.races import invariants, program
from tests.vm.races.invariants import CONFIG, INIT, KEY_CONFIG, LP_INIT, RD, RELOAD, TDMR_INIT
from tests.vm.races.kernel_log import kernel_complaints, without_scheduler
from vtdx.vm.errors import MachineLost
from vtdx.vm.machine import Machine

KO = "/usr/lib/vtdx/tdxhost.ko"

# No waiting, and PAMTs that are found at once.
PLATFORM = """
[platform]
base = spr-2s
[memory]
node0 = 1G
node1 = 1G
[latency]
TDH.SYS.INIT = 0ns
TDH.SYS.LP.INIT = 0ns
TDH.SYS.CONFIG = 0ns
TDH.SYS.KEY.CONFIG = 0ns
TDH.SYS.TDMR.INIT = 0ns
"""

GETS = "get_info,get_status,get_status,get_cpus,get_steps,get_memory"
CPUS = "cpu_enable,cpus_enable"
ENABLES = "enable,enable_cpus,retry,retry_cpus"
ALL = f"{GETS},sys_rd,{CPUS},{ENABLES}"

# TDXHOST_CODE_*, kmod/include/uapi/linux/tdxhost.h
NONE, SEAMCALL, CPU_NOT_ENABLED, CPU_OFFLINE = 0, 1, 10, 11
PACKAGE_OFFLINE, EARLIER_FAILURE = 18, 19

CPU_3_REFUSED = "TDH.SYS.LP.INIT cpu=3 status=TDX_INCONSISTENT_MSR detail=0x10a"

Start = AbstractContextManager[Host]


def tame(machine: Machine) -> None:
    """Prepare a machine: its console and udev's rules are too slow for every round."""
    assert machine.shell("dmesg -n 1 && udevadm control --exit").status == 0


@pytest.fixture(scope="module")
def races(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of the guest: the program."""
    return {program.IN_GUEST: program.build(tmp_path_factory.mktemp("races") / "races")}


@pytest.fixture
def fresh(boot: Boot, races: dict[str, Path], tmp_path: Path) -> Start:
    """A machine to which nothing has happened yet."""
    path = tmp_path / "fast.ini"
    path.write_text(PLATFORM, encoding="utf-8")
    return boot(str(path), warm=True, prepare=tame, extra=races, seconds=900)


def check(host: Host, driver_reloaded: bool = False) -> list[invariants.Life]:
    """Nothing illegal in vtdx's log, nothing bad in the kernel's; what each life came to."""
    assert kernel_complaints(host) == []
    return invariants.check_log(host.witness(), host.machine.spec.platform, driver_reloaded)


def bring_up(host: Host) -> None:
    """Initialise the TDX module, by one caller."""
    report = program.run(host, "rounds", seed=0, rounds=1, callers=1, mix="enable_cpus")
    assert report["initialized"]


def fail_by_number(
    host: Host, leaf: str, status: str, first: int, last: int, each: int = 1
) -> None:
    """Let a leaf fail ``each`` times with each of these details, in order."""
    for number in range(first, last + 1):
        call = (number - first) * each + 1
        host.control.fault(f"{leaf} call={call} times={each} status={status} detail={number}")


def test_without_all_cpus_nothing_is_configured(fresh: Start) -> None:
    with fresh as host:
        host.control.fault(CPU_3_REFUSED)
        report = program.run(
            host, "rounds", seed=1, rounds=700, callers=8, each=2, mix=ALL, hotplug_us=500000
        )
        (life,) = check(host)

    assert report["rounds"] == 700
    assert set(report.codes) <= {NONE, SEAMCALL, CPU_NOT_ENABLED, CPU_OFFLINE, EARLIER_FAILURE}
    assert report["offline"] > 0
    # While CPU 3 is offline it is the TDX module that says so.
    assert life.cpus == {0, 1, 2}
    assert life.done[CONFIG] == 0


def test_all_who_wait_for_an_attempt_are_told_the_same(fresh: Start) -> None:
    with fresh as host:
        fail_by_number(host, CONFIG, "TDX_INVALID_TDMR", 1, 1500)
        report = program.run(
            host,
            "rounds",
            seed=2,
            rounds=150,
            callers=8,
            each=2,
            mix=f"{ALL},retry,retry_cpus",
            numbered=1,
            hotplug_us=500000,
        )
        (life,) = check(host)

    # Somebody was told of each attempt, and many of an attempt that others made.
    assert life.configs == report["attempts"]
    assert report["attempts"] > 50
    assert report["shared"] > 50
    assert life.done[CONFIG] == 0
    assert not report["initialized"]


def test_passing_faults_after_config_end_in_success(fresh: Start) -> None:
    """Keys and TDMRs fail again and again; RETRY goes on where it was."""
    with fresh as host:
        fail_by_number(host, KEY_CONFIG, "TDX_RND_NO_ENTROPY", 1, 40, each=10)
        fail_by_number(host, TDMR_INIT, "TDX_RND_NO_ENTROPY", 41, 80, each=10)
        host.control.fault(f"{KEY_CONFIG} cpu=2-3 call=200 times=2 trap=UD")
        host.control.fault(f"{TDMR_INIT} call=420 times=150 status=TDX_OPERAND_BUSY")
        report = program.run(
            host,
            "rounds",
            seed=3,
            rounds=2000,
            callers=8,
            each=2,
            mix=f"{ALL},retry,retry_cpus",
            numbered=1,
            until_up=1,
            hotplug_us=500000,
        )
        (life,) = check(host)

    assert report["initialized"]
    assert report["rounds"] < 2000
    # 40 numbers end one attempt each at a key; TDMRs are initialised side by side, and two of them
    # may meet two numbers in one attempt.
    assert report["attempts"] >= 40 + 40 // 2
    assert life.done[CONFIG] == 1
    assert life.done[KEY_CONFIG] == 2
    assert life.initialised


def test_once_initialized_nothing_is_done_again(fresh: Start) -> None:
    with fresh as host:
        bring_up(host)
        host.control.mark("up")
        report = program.run(
            host, "rounds", seed=4, rounds=2000, callers=8, each=2, mix=ALL, hotplug_us=500000
        )
        calls = host.witness().case("up").calls
        still = program.run(host, "rounds", seed=5, rounds=1, callers=1, mix="get_status")
        removed = host.run("rmmod", "tdxhost")
        (life,) = check(host)

    assert report["rounds"] == 2000
    assert set(report.codes) == {NONE, CPU_OFFLINE}
    assert report["offline"] > 0
    # CPUs that come back are still enabled.
    assert {call.leaf for call in calls} == {RD}
    assert len(calls) == 3 * report.calls["sys_rd"]
    # No news in any of it.
    assert still["generation"] == report["generation"]
    assert removed.status != 0
    assert "in use" in removed.stderr
    assert life.initialised


@pytest.mark.parametrize("seed", range(1, 9))
def test_everything_races_from_a_cold_start(fresh: Start, seed: int) -> None:
    with fresh as host:
        report = program.run(
            host,
            "rounds",
            seed=100 + seed,
            rounds=500,
            callers=8,
            each=3,
            mix=f"{ALL},retry_cpus",
            until_up=1,
            hotplug_us=300000,
        )
        (life,) = check(host)

    assert report["initialized"]
    assert life.initialised
    assert [life.done[leaf] for leaf in (INIT, LP_INIT, CONFIG, KEY_CONFIG)] == [1, 4, 1, 2]


def test_every_new_driver_and_tdx_module_starts_afresh(fresh: Start) -> None:
    lives = 100
    with fresh as host:
        host.control.fault(f"{CONFIG} status=TDX_INVALID_TDMR")
        for life in range(lives):
            assert host.run("rmmod", "tdxhost").status == 0
            host.control.mark(RELOAD)
            host.control.reload()
            assert host.run("insmod", KO).status == 0
            program.run(
                host,
                "rounds",
                seed=1000 + life,
                rounds=2,
                callers=8,
                each=3,
                mix=f"{ALL},enable_cpus",
            )
        seen = check(host)

    # The machine's own TDX module had no caller.
    assert [life.done[INIT] for life in seen] == [0] + [1] * lives
    assert sum(len(life.cpus) for life in seen) > 3 * lives


def test_the_driver_goes_and_comes_while_others_open_its_device(fresh: Start) -> None:
    with fresh as host:
        # Whoever asks, there is something to do.
        host.control.fault(CPU_3_REFUSED)
        mix = f"{GETS},{CPUS}"
        report = program.run(host, "unload", seed=6, rounds=100, callers=4, mix=mix, module=KO)
        (life,) = check(host, driver_reloaded=True)
        # Whether CPU 3 was asked in this life, and so the exit code, is chance.
        document = host.run("tdxhost", "status", "--format", "json").json()
        assert document["module"]["status"] == "unknown"

    assert report["loads"] == 100
    assert report["opens"] > 100
    assert report["gone"] > 0
    assert life.done[INIT] == 1
    assert life.cpus == {0, 1, 2}


def test_killed_callers_leave_nothing_half_done(fresh: Start) -> None:
    with fresh as host:
        for leaf in (INIT, LP_INIT, CONFIG, KEY_CONFIG):
            host.control.latency(leaf, "20ms")
        host.control.latency(TDMR_INIT, "3ms")
        # Waits in between, in which a signal is seen.
        for leaf in (LP_INIT, KEY_CONFIG, TDMR_INIT):
            host.control.fault(f"{leaf} times=60 status=TDX_SYS_BUSY")
        report = program.run(
            host,
            "kill",
            seed=7,
            rounds=60,
            callers=6,
            mix=f"{CPUS},{ENABLES},retry_cpus",
            most_us=400000,
        )
        bring_up(host)
        (life,) = check(host)

    assert report["killed"] == 60 * 6
    assert report["inside"] > 60
    assert life.initialised
    assert [life.done[leaf] for leaf in (INIT, LP_INIT, CONFIG, KEY_CONFIG)] == [1, 4, 1, 2]


def test_more_cpus_than_the_machine_has_themselves(boot: Boot, races: dict[str, Path]) -> None:
    with boot(cpus=8, extra=races, prepare=tame, seconds=900) as host:
        fail_by_number(host, CONFIG, "TDX_INVALID_TDMR", 1, 3)
        options: dict[str, int | str] = {
            "callers": 16,
            "each": 3,
            "mix": f"{ALL},retry_cpus",
            "hotplug_us": 300000,
        }
        first = program.run(host, "rounds", seed=8, rounds=500, until_up=1, **options)
        then = program.run(host, "rounds", seed=9, rounds=100, **options)
        (life,) = check(host)

    assert first["initialized"]
    assert then["rounds"] == 100
    assert life.cpus == set(range(8))
    assert [life.done[leaf] for leaf in (INIT, LP_INIT, CONFIG, KEY_CONFIG)] == [1, 8, 1, 2]


REBOOT = "import ctypes; ctypes.CDLL(None).reboot(0x1234567)"


def test_a_reboot_stops_the_attempt_under_way(fresh: Start) -> None:
    """Caches are flushed then, and whoever reboots does not wait for the other 50 s."""
    with fresh as host:
        host.control.latency(TDMR_INIT, "100ms")
        script = f"""
        {program.IN_GUEST} rounds seed=1 rounds=1 callers=1 mix=enable_cpus &
        until tdxhost status --format json | grep -q '"step": "tdmr_init"'; do :; done
        python3 -c '{REBOOT}'
        """
        with pytest.raises(MachineLost):
            host.sh(script)
        witness = host.witness()
        (life,) = invariants.check_log(witness, host.machine.spec.platform)

    assert life.done[CONFIG] == 1
    in_all = sum(tdmr.size for tdmr in witness.tdmrs()) >> 22
    assert 0 < len(witness.of(TDMR_INIT)) < in_all // 2


STAMP = "[   20.418495] "


def warning(place: str, text: str, *tasks: str) -> str:
    """What the kernel says when a CPU goes while tasks are on it, and the like."""
    lines = ["------------[ cut here ]------------", text, f"WARNING: CPU: 3 PID: 39 at {place}"]
    lines += ["Call Trace:", "---[ end trace 0000000000000000 ]---"]
    if tasks:
        lines += [f"CPU3 enqueued tasks ({len(tasks)} total):"]
        lines += [f"\tpid: 39, name: {task}" for task in tasks]
    return "".join(f"{STAMP}{line}\n" for line in lines)


DYING = ("kernel/sched/core.c:8365 sched_cpu_dying.cold", "Dying CPU not properly vacated!")


@pytest.mark.parametrize(
    ("log", "kept"),
    [
        (warning(*DYING, "migration/3"), False),
        (warning(*DYING, "migration/3", "races"), True),
        (warning("kernel/sched/deadline.c:265 inactive_task_timer", ""), False),
        (warning("kernel/cpu.c:100 cpus_read_unlock", ""), True),
    ],
)
def test_no_warning_but_the_schedulers_own_is_passed_over(log: str, kept: bool) -> None:
    assert bool(complaints(without_scheduler(log))) is kept
