# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/vm: the command's output and status and nothing else, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from vtdx.vm import kernels, platform
from vtdx.vm.build import PROJECT
from vtdx.vm.errors import MachineLost
from vtdx.vm.machine import Machine, Spec

BARE = ("--no-driver", "--platform", "spr-1s")
SLEEPS = ("sh", "-c", "echo up; sleep 1000")


def vm(
    *words: str, options: Sequence[str] = BARE, timeout: float = 200
) -> subprocess.CompletedProcess[bytes]:
    """Run scripts/vm to its end."""
    command = [str(PROJECT / "scripts/vm"), *options, *words]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
    )


@dataclass(frozen=True)
class Running:
    """scripts/vm while its command runs; ``mark`` is in its environment."""

    process: subprocess.Popen[bytes]
    mark: str

    def qemus(self) -> list[int]:
        """Process ids of the QEMUs that came of it."""
        return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if self._is_ours(entry)]

    def _is_ours(self, entry: Path) -> bool:
        try:
            program = (entry / "cmdline").read_bytes().split(b"-machine")[0]
            environment = (entry / "environ").read_bytes()
        except OSError:
            return False
        return b"qemu-system" in program and self.mark.encode() in environment


@pytest.fixture
def running() -> Iterator[Running]:
    """scripts/vm whose machine runs a command that takes long."""
    mark = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    with subprocess.Popen(
        # A shell's background jobs ignore SIGINT, and so do their children.
        ["env", "--default-signal=INT", str(PROJECT / "scripts/vm"), *BARE, "--", *SLEEPS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TDXHOST_TEST": mark},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n", process.communicate()
        run = Running(process, mark)
        assert run.qemus()
        yield run
        process.kill()


def test_streams_and_status_come_back_unmixed() -> None:
    # What is not built yet is built now, and said to be.
    vm("--", "true")
    done = vm("--", "sh", "-c", "echo out; echo err >&2; printf '\\001\\377'; exit 42")

    assert done.returncode == 42
    assert done.stdout == b"out\n\001\377"
    assert done.stderr == b"err\n"


def test_much_output_arrives_whole() -> None:
    done = vm("--", "seq", "100000")

    assert done.stdout.decode().split() == [str(n) for n in range(1, 100001)]


def test_a_command_that_is_not_there_is_127() -> None:
    done = vm("--", "no-such-command")

    assert done.returncode == 127
    assert b"no-such-command" in done.stderr


def test_a_panic_ends_the_run_at_once() -> None:
    begin = time.monotonic()
    done = vm(
        "--", "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger; sleep 900"
    )

    assert done.returncode == 125
    assert b"Kernel panic" in done.stderr
    assert time.monotonic() - begin < 150


def test_the_deadline_ends_the_machine() -> None:
    done = vm("--timeout", "25", "--", "sleep", "900")

    assert done.returncode == 124


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seam", __file__), b"test_machine.py"),
        (("--fault", "TDH.SYS.NOTHING vmfail"), b"[faults] 1: 'TDH.SYS.NOTHING'"),
    ],
)
def test_a_machine_that_can_t_start_is_125(options: tuple[str, str], words: bytes) -> None:
    done = vm("--", "true", options=("--no-driver", *options))

    assert done.returncode == 125
    assert words in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_kernel_that_qemu_can_t_load_is_125(tmp_path: Path) -> None:
    """It looks like one, of a time before there were initial RAM disks."""
    path = tmp_path / "bzImage"
    path.write_bytes(bytes(0x202) + b"HdrS" + bytes(4096))
    done = vm("--kernel", str(path), "--", "true", options=("--no-driver",))

    assert done.returncode == 125
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"vm: The machine did not come up.")


@pytest.mark.parametrize(
    "words",
    [["--platform", "none", "--", "true"], ["--smp", "7", "--", "true"], ["--nonsense"], []],
)
def test_a_wrong_option_is_2(words: list[str]) -> None:
    done = vm(*words, options=())

    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        *(
            pytest.param(other, marks=pytest.mark.slow)
            for other in (signal.SIGTERM, signal.SIGKILL)
        ),
    ],
)
def test_no_qemu_outlives_the_script(running: Running, number: signal.Signals) -> None:
    running.process.send_signal(number)

    assert running.process.wait(20) in (130, -signal.SIGKILL)
    until = time.monotonic() + 10
    while running.qemus():
        assert time.monotonic() < until, "a QEMU was left behind"
        time.sleep(0.1)


def test_size_kernel_arguments_and_files_are_as_asked(tmp_path: Path) -> None:
    log, console = tmp_path / "log", tmp_path / "console"
    options = ["--smp", "6", "--mem", "3G", "--append", "vtdx.test=1", "--log", str(log)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine\n")
    options += ["--console", str(console), "--put", str(tmp_path / "mine")]
    script = "nproc; grep -c ^node /proc/zoneinfo; cat /proc/cmdline; grep MemTotal /proc/meminfo"
    done = vm("--", "sh", "-c", f"{script}; cat /root/mine/file", options=options)

    lines = done.stdout.decode().splitlines()
    assert lines[0] == "6"
    assert "vtdx.test=1" in lines[2]
    assert 2.5 * (1 << 20) < int(lines[3].split()[1]) < 3 * (1 << 20)
    assert lines[4] == "mine"
    first = json.loads(log.read_text().splitlines()[0])
    assert first["event"] == "start"
    assert first["schema"] == "vtdx-log/1"
    assert first["platform"] == "spr-2s"
    assert "Linux version" in console.read_text()


def test_another_seam_library_takes_the_place(tmp_path: Path) -> None:
    library = tmp_path / "libstub.so"
    source = Path(__file__).parent / "stub/stub.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    options = ("--platform", "spr-1s", "--seam", str(library))
    done = vm("--", "tdxhost", "enable", "--format", "json", options=options)

    assert done.returncode == 1
    # The stub refuses all; TDH.SYS.INIT, leaf 33, is what comes first.
    assert {cpu["seam_status"] for cpu in json.loads(done.stdout)["cpus"]} == {"0xc000010000000021"}


def test_a_bzimage_boots_by_its_path() -> None:
    kernel = kernels.find(kernels.default())
    done = vm("--kernel", str(kernel.image), "--", "uname", "-r")

    assert done.stdout.decode().strip() == kernel.release


@pytest.mark.slow
def test_a_boot_that_hangs_is_tried_once_more(tmp_path: Path) -> None:
    """The first process waits for ever and says nothing, on every try."""
    spec = Spec(
        platform.load("spr-1s"),
        driver=False,
        append="rdinit=/bin/cat",
        silence_seconds=15,
        console=tmp_path / "console",
    )
    with pytest.raises(MachineLost, match="hung twice"), Machine(spec):
        pass


def test_a_terminal_of_the_size_asked_for() -> None:
    done = vm("--terminal", "61x17", "--", "stty", "size")

    assert done.stdout.split() == [b"17", b"61"]
