# SPDX-License-Identifier: GPL-2.0-or-later
"""A session that uses KVM as a VMM does, and tells what each call came to.

| request | what it does |
| --- | --- |
| ``{"do": "load"}`` | modprobe kvm_intel, with ``arguments``; ``status`` |
| ``{"do": "unload"}`` | rmmod of kvm_intel and kvm; ``status`` |
| ``{"do": "open"}`` | one more VM with a vCPU, which stays |
| ``{"do": "run"}`` | KVM_RUN on each VM that is open, ``times``; ``exits`` |
| ``{"do": "close"}`` | closes them |
| ``{"do": "tdx"}`` | what KVM offers of TDX: ``types`` of VMs, ``attributes`` and ``xfam`` of TDs |
| ``{"do": "storm"}`` | begins to do ``what`` ("vms", "modules", "runs") in ``threads`` |
| ``{"do": "peek"}`` | how many ``rounds`` of that are done |
| ``{"do": "calm"}`` | ends that; ``rounds``, ``exits`` and ``failures`` |

``exits`` counts "EXIT_REASON:HARDWARE_ENTRY_FAILURE_REASON" (Documentation/virt/kvm/api.rst).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import struct
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

# include/uapi/linux/kvm.h
KVM_GET_API_VERSION = 0xAE00
KVM_CREATE_VM = 0xAE01
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_CREATE_VCPU = 0xAE41
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_RUN = 0xAE80
API_VERSION = 12
EXIT_REASON = struct.Struct("<8xI")
ENTRY_FAILURE_REASON = struct.Struct("<32xQ")

MEMORY_BYTES = 1 << 20

# arch/x86/include/uapi/asm/kvm.h; Documentation/virt/kvm/x86/intel-tdx.rst
KVM_CHECK_EXTENSION = 0xAE03
KVM_CAP_VM_TYPES = 235
KVM_X86_TDX_VM = 5
KVM_MEMORY_ENCRYPT_OP = 0xC008AEBA
KVM_TDX_CAPABILITIES = 0
TDX_COMMAND = struct.Struct("<IIQQ")
# Attributes, XFAM, what is of no interest here; then room for CPUID's leaves.
TDX_CAPABILITIES = struct.Struct("<QQ2032xII")
CPUID_ENTRIES, CPUID_ENTRY_BYTES = 256, 40


class Vm:
    """A VM with some memory and one vCPU. A context manager; closed at its end."""

    def __init__(self) -> None:
        self._files: list[int] = []
        self._memory = mmap.mmap(-1, MEMORY_BYTES)
        try:
            self._create()
        except OSError:
            self.close()
            raise

    def _create(self) -> None:
        kvm = self._keep(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        assert fcntl.ioctl(kvm, KVM_GET_API_VERSION) == API_VERSION
        vm = self._keep(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        region = struct.pack("<IIQQQ", 0, 0, 0, MEMORY_BYTES, address)
        fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION, region)
        self._vcpu = self._keep(fcntl.ioctl(vm, KVM_CREATE_VCPU, 0))
        self._shared = mmap.mmap(self._vcpu, fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE))

    def _keep(self, fd: int) -> int:
        self._files.append(fd)
        return fd

    def __enter__(self) -> Vm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close everything, the VM's last reference too."""
        if "_shared" in vars(self):
            self._shared.close()
        while self._files:
            os.close(self._files.pop())

    def run(self) -> str:
        """KVM_RUN; how the vCPU came back."""
        fcntl.ioctl(self._vcpu, KVM_RUN)
        (reason,) = EXIT_REASON.unpack_from(self._shared)
        (hardware,) = ENTRY_FAILURE_REASON.unpack_from(self._shared)
        return f"{reason}:{hardware}"


def tdx_capabilities(vm: int) -> tuple[int, int]:
    """Attributes and XFAM that TDs may have, of a VM that is to become one."""
    room = bytearray(TDX_CAPABILITIES.size + CPUID_ENTRIES * CPUID_ENTRY_BYTES)
    TDX_CAPABILITIES.pack_into(room, 0, 0, 0, CPUID_ENTRIES, 0)
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    request = bytearray(TDX_COMMAND.pack(KVM_TDX_CAPABILITIES, 0, address, 0))
    fcntl.ioctl(vm, KVM_MEMORY_ENCRYPT_OP, request)
    attributes, xfam, _, _ = TDX_CAPABILITIES.unpack_from(room)
    return attributes, xfam


def offered_tdx() -> dict[str, Any]:
    """What KVM offers of TDX; a TD is begun for it, and given up."""
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        types = fcntl.ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES)
        if not types & 1 << KVM_X86_TDX_VM:
            return {"types": types}
        vm = fcntl.ioctl(kvm, KVM_CREATE_VM, KVM_X86_TDX_VM)
        try:
            attributes, xfam = tdx_capabilities(vm)
        finally:
            os.close(vm)
    finally:
        os.close(kvm)
    return {"types": types, "attributes": attributes, "xfam": xfam}


def command(*argv: str) -> tuple[int, str]:
    """Run a command; its status and what it complained of."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


def load(arguments: list[str]) -> dict[str, Any]:
    """Load KVM; ``arguments`` are parameters of kvm, the rest are kvm_intel's."""
    ours = [word for word in arguments if not word.startswith("kvm.")]
    kvms = [word.removeprefix("kvm.") for word in arguments if word.startswith("kvm.")]
    status, stderr = command("modprobe", "kvm", *kvms)
    if not status:
        status, stderr = command("modprobe", "kvm_intel", *ours)
    return {"status": status, "stderr": stderr}


def unload() -> dict[str, Any]:
    """Unload it."""
    status, stderr = command("rmmod", "kvm_intel", "kvm")
    return {"status": status, "stderr": stderr}


class Storm:
    """Threads that do one thing again and again, until the calm."""

    def __init__(self, what: str, threads: int, arguments: list[str]) -> None:
        self._round = {"vms": self._vms, "modules": self._modules, "runs": self._runs}[what]
        self._arguments = arguments
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.rounds = 0
        self.exits: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def calm(self) -> dict[str, Any]:
        """End it; what it came to."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        return {"rounds": self.rounds, "exits": self.exits, "failures": self.failures}

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                exits, failures = self._round()
            except OSError as error:
                exits, failures = [], [str(error)]
            with self._lock:
                self.rounds += 1
                self.exits.update(exits)
                self.failures.update(failures)

    def _vms(self) -> tuple[list[str], list[str]]:
        with Vm() as vm:
            return [vm.run()], []

    def _runs(self) -> tuple[list[str], list[str]]:
        exits: list[str] = []
        with Vm() as vm:
            while not self._over.is_set():
                exits.append(vm.run())
        return exits, []

    def _modules(self) -> tuple[list[str], list[str]]:
        exits: list[str] = []
        done = [load(self._arguments)]
        if not done[0]["status"]:
            exits += self._vms()[0]
            done.append(unload())
        return exits, [word["stderr"] or "silent" for word in done if word["status"]]


class Server:
    """What lives from one request to the next."""

    def __init__(self) -> None:
        self._vms: list[Vm] = []
        self._storm: Storm | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked for; an OSError is an answer too."""
        what = request.pop("do")
        try:
            result: dict[str, Any] = getattr(self, f"do_{what}")(**request)
        except OSError as error:
            return {"error": str(error)}
        return result

    def do_load(self, arguments: list[str]) -> dict[str, Any]:
        """load"""
        return load(arguments)

    def do_unload(self) -> dict[str, Any]:
        """unload"""
        return unload()

    def do_open(self) -> dict[str, Any]:
        """open"""
        self._vms.append(Vm())
        return {"vms": len(self._vms)}

    def do_run(self, times: int) -> dict[str, Any]:
        """run"""
        return {"exits": Counter(vm.run() for _ in range(times) for vm in self._vms)}

    def do_close(self) -> dict[str, Any]:
        """close"""
        while self._vms:
            self._vms.pop().close()
        return {"vms": 0}

    def do_tdx(self) -> dict[str, Any]:
        """tdx"""
        return offered_tdx()

    def do_storm(self, what: str, threads: int, arguments: list[str]) -> dict[str, Any]:
        """storm"""
        self._storm = Storm(what, threads, arguments)
        return {"threads": threads}

    def do_peek(self) -> dict[str, Any]:
        """peek"""
        assert self._storm is not None
        return {"rounds": self._storm.rounds}

    def do_calm(self) -> dict[str, Any]:
        """calm"""
        assert self._storm is not None
        return self._storm.calm()


def main() -> None:
    """Answer until standard input ends."""
    server = Server()
    for line in sys.stdin:
        print(json.dumps(server.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
