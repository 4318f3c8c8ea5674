# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts that Ansible reaches over ssh: virtual, on the loopback, and back after a reboot."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from tests.vm.installed import HostRoot
from vtdx.vm import build
from vtdx.vm.machine import Machine, Spec
from vtdx.vm.platform import Platform
from vtdx.vm.roots import run_logged

PLAYBOOK = build.PROJECT / "scripts/ansible/validate.yaml"

# Nobody listens there: TCP's discard service is a port that is given to nothing else.
NO_PORT = 9

_UP_SECONDS = 300.0
_SSHD_SECONDS = 60.0
_POLL_SECONDS = 0.2

# Not root: what needs root has to ask for it.
_USER = "lab"
_ADD_USER = f"""useradd -m {_USER} && echo '{_USER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{_USER}
mkdir /home/{_USER}/.ssh && echo "$1" >/home/{_USER}/.ssh/authorized_keys"""

# The host has no init of systemd's: what shutdown -r comes to, once ssh has hung up.
_SHUTDOWN = """cat >/usr/sbin/shutdown <<'END' && chmod 755 /usr/sbin/shutdown
#!/bin/sh
(sleep 1; sync; echo b >/proc/sysrq-trigger) >/dev/null 2>&1 &
END
echo 127.0.1.1 vtdx >>/etc/hosts"""


@dataclass
class Member:
    """A host of the fleet; it runs in a thread, which boots it again when it has rebooted.

    QEMU ends with the thread that started it, and the thread with this process.
    """

    name: str
    spec: Spec
    boots: int = 0
    _up: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)
    _error: BaseException | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to boot."""
        self._thread = threading.Thread(target=self._keep, name=self.name, daemon=True)
        self._thread.start()

    def port(self) -> int:
        """The port that leads to its ssh server, once that is there."""
        assert self._up.wait(_UP_SECONDS), f"{self.name} did not come up"
        if self._error is not None:
            raise self._error
        assert self.spec.ssh_port
        return self.spec.ssh_port

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self) -> None:
        try:
            while not self._stop.is_set():
                self._live()
        except BaseException as error:  # noqa: BLE001 - port() raises it, in the test's thread
            self._error = error
            self._up.set()

    def _live(self) -> None:
        """One boot, to its end."""
        with Machine(self.spec) as machine:
            started = machine.shell("mkdir -p /run/sshd && /usr/sbin/sshd", _SSHD_SECONDS)
            assert started.status == 0, started
            self.boots += 1
            self.spec = replace(self.spec, ssh_port=machine.ssh_port)
            self._up.set()
            while not self._stop.is_set() and not machine.is_gone(_POLL_SECONDS):
                pass


@dataclass(frozen=True)
class Fleet:
    """Hosts that are up, a key that opens them, and a folder for what Ansible writes."""

    members: Sequence[Member]
    key: Path
    folder: Path

    @property
    def results(self) -> Path:
        """What the playbook has collected."""
        return self.folder / "results"

    def play(self, *, timeout: float, **variables: object) -> subprocess.CompletedProcess[str]:
        """Run the playbook on all members, and on a host "gone" that nobody answers for."""
        inventory = self.folder / "hosts.yaml"
        inventory.write_text(yaml.safe_dump(self._inventory(variables)), encoding="utf-8")
        program = Path(sys.executable).with_name("ansible-playbook")
        return subprocess.run(
            [str(program), "-i", str(inventory), str(PLAYBOOK)],
            cwd=self.folder,
            env={**os.environ, **self._environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def _inventory(self, variables: Mapping[str, object]) -> dict[str, object]:
        options = (
            "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
        )
        ports = {member.name: member.port() for member in self.members} | {"gone": NO_PORT}
        reach = {
            "ansible_host": "127.0.0.1",
            "ansible_user": _USER,
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": options,
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        hosts = {name: {"ansible_port": port} for name, port in ports.items()}
        return {"all": {"vars": {**reach, **variables}, "hosts": hosts}}

    def _environment(self) -> dict[str, str]:
        # Each task would come as a file first, and an emulator is slow at that.
        mine = {"HOME": str(self.folder), "PWD": str(self.folder), "ANSIBLE_PIPELINING": "1"}
        return {**mine, "ANSIBLE_NOCOLOR": "1", "COLUMNS": "100"}


@contextmanager
def fleet(
    root: HostRoot, folder: Path, platforms: Mapping[str, Platform], keep: Sequence[str] = ()
) -> Iterator[Fleet]:
    """Hosts with a disk like ``root``'s, gone at the end; those of ``keep`` may reboot."""
    key = folder / "key"
    run_logged(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], "ssh-keygen")
    public = key.with_suffix(".pub").read_text(encoding="ascii").strip()
    root.run("/bin/sh", "-c", _ADD_USER, "sh", public).check_returncode()
    root.sh(_SHUTDOWN).check_returncode()
    with ExitStack() as stack:
        members = []
        for name, platform in platforms.items():
            disk = root.disk
            if name in keep:
                disk = folder / f"{name}.ext4"
                stack.callback(disk.unlink, missing_ok=True)
                run_logged(["cp", "--sparse=always", str(root.disk), str(disk)], "copying a disk")
            spec = Spec(
                platform=platform,
                kernel=root.kernel,
                driver=False,
                disk=disk,
                disk_stays=name in keep,
                ssh_port=0,
                console=folder / f"{name}.console",
            )
            members.append(Member(name, spec))
            stack.callback(members[-1].stop)
        for member in members:
            member.start()
        for member in members:
            member.port()
        yield Fleet(members, key, folder)
