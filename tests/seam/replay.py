# SPDX-License-Identifier: GPL-2.0-or-later
"""Replays recorded answers of the TDX module against a seam library.

The format is that of tdx-abi/vectors/README.md.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from .binding import DONE, FATAL, Library, Module
from .machine import INIT, LP_INIT, TDMR_INIT, Machine, Regs, config
from .model import ModelLibrary, ModelModule

Line = dict[str, Any]

MACHINE_KEYS = (
    "lps",
    "packages",
    "lp_package",
    "num_mktme_kids",
    "num_tdx_priv_kids",
    "keyid_bits",
)
CONFIG_KEYS = ("module_hv", "min_update_hv", "no_downgrade", "num_handoff_pages")
PAMT_LEVELS = ("pamt_4k", "pamt_2m", "pamt_1g")
PCONFIG_RESULTS = {
    "success": 0,
    "bad_command": 1,
    "entropy": 2,
    "bad_keyid": 3,
    "bad_algorithm": 4,
    "busy": 5,
}
PREFILL = 0xEE


class Mismatch(AssertionError):
    """The library answered something else than the module did."""


def lines(path: Path) -> Iterator[Line]:
    with gzip.open(path, "rt") as file:
        for line in file:
            yield json.loads(line)


def number(value: str | int | None) -> int:
    return int(value, 16) if isinstance(value, str) else value or 0


def contents(area: Line) -> bytes:
    """Bytes of a memory area, whose trailing zeros were cut."""
    return bytes.fromhex(area["hex"]).ljust(area["len"], b"\0")


class Replay:
    """One line: one sequence on a fresh platform."""

    def __init__(
        self, library: Library | ModelLibrary, line: Line, platform: Line | None = None
    ) -> None:
        self._library = library
        self._line = line
        self._platform = platform or line["platform"]
        self._cmrs = [[number(base), number(size)] for base, size in self._platform["cmrs"]]
        self._sysinfo: dict[str, int] = {}
        self._where = line["id"]
        self.machine = Machine(
            **{name: self._platform[name] for name in MACHINE_KEYS},
        )
        self._healthy = copy.deepcopy(self._changeable())
        self.module = self._create()

    def run(self) -> None:
        if "setup" in self._line:
            self._set_up()
        for index, step in enumerate(self._line["steps"]):
            self._where = f"{self._line['id']} step {index} ({step.get('leaf')})"
            self._step(step)

    def _create(self) -> Module | ModelModule:
        base, size = (number(value) for value in self._platform["seamrr"])
        packages = self.machine.packages
        settings = {
            "seamrr_base_pa": base,
            "seamrr_bytes": size,
            "package_fms": [number(self._platform["fms"])] * packages + [0] * (8 - packages),
            **{name: self._platform[name] for name in CONFIG_KEYS},
            **self._sysinfo,
        }
        module = self._library.create(config(self.machine, self._cmrs, **settings), self.machine)
        if module is None:
            raise Mismatch(f"{self._where}: seam_create() refused the platform")
        return module

    def _set_up(self) -> None:
        """TDH.SYS.INIT on LP 0, then TDH.SYS.LP.INIT on every LP in order."""
        for lp, leaf in [(0, INIT)] + [(lp, LP_INIT) for lp in range(self.machine.lps)]:
            result, out = self.module.call(lp, rax=leaf)
            if (result, out["rax"]) != (DONE, 0):
                self._fail(f"setup: leaf {leaf}: {out['rax']:#x}")

    def _step(self, step: Line) -> None:
        if "event" in step:
            self._event(step["event"])
            return
        if "loop" in step:
            self._loop(step)
        elif step.get("concurrent"):
            self._concurrent(step)
        else:
            self._call(step)
            self.machine.pconfig_result = 0
            self.machine.rdrand_failures = 0
        self._check_state(step["state"])

    def _fail(self, what: str) -> NoReturn:
        raise Mismatch(f"{self._where}: {what}")

    def _call(self, step: Line) -> None:
        self._prepare_memory(step)
        self.machine.pconfig_calls.clear()
        registers = {name: number(value) for name, value in step["in"].items()}
        result, out = self.module.call(step["lp"], **registers)
        if step.get("fatal"):
            if result != FATAL:
                self._fail(f"ended with {result} instead of fatally")
            return
        if result != DONE:
            self._fail(f"SEAMCALL ended with {result}")
        self._check_registers(step, out)
        self._check_pconfig(step)
        self._check_memory(step)

    def _prepare_memory(self, step: Line) -> None:
        for area in step.get("mem", ()):
            self.machine.memory.write(number(area["pa"]), contents(area))
        fills = re.findall(r"of 0x(\w\w)", step.get("mem_before", ""))
        for area, fill in zip(step.get("mem_out", ()), fills, strict=False):
            self.machine.memory.write(number(area["pa"]), bytes.fromhex(fill) * area["len"])

    def _check_registers(self, step: Line, out: dict[str, int]) -> None:
        name = self._library.status_name(out["rax"])
        if name != step["status"]:
            self._fail(f"{name} ({out['rax']:#x}) instead of {step['status']}")
        wrong = {
            register: (hex(out[register]), value)
            for register, value in step["out"].items()
            if out[register] != number(value)
        }
        if step.get("volatile"):
            wrong.pop("r8", None)
        if wrong:
            self._fail(f"registers (got, expected): {wrong}")

    def _check_pconfig(self, step: Line) -> None:
        if "pconfig" not in step:
            return
        want = step["pconfig"]
        ctrl = want["command"] | want["enc_algo"] << 8
        if self.machine.pconfig_calls != [(step["lp"], want["keyid"], ctrl)]:
            self._fail(f"PCONFIG {self.machine.pconfig_calls}, expected {want}")

    def _check_memory(self, step: Line) -> None:
        for area in step.get("mem_out", ()):
            got = self.machine.memory.read(number(area["pa"]), area["len"])
            if got != contents(area) and not area.get("volatile"):
                self._fail(f"memory at {area['pa']}")

    def _check_state(self, want: Line) -> None:
        got = self.module.state()
        if got != {"sys": want["sys"], "lps": want["lps"], "packages": want["pkgs"]}:
            self._fail(f"state {got}, expected {want}")

    # Loops of TDH.SYS.TDMR.INIT

    def _loop(self, step: Line) -> None:
        pamt = step["pamt"]
        if "prefill" in self._line:
            for level in PAMT_LEVELS:
                garbage = bytes([PREFILL]) * pamt[level]["len"]
                self.machine.memory.write(number(pamt[level]["pa"]), garbage)
        lps = step["lps_round_robin"]
        calls = (
            self.module.call(lps[n % len(lps)], rax=TDMR_INIT, rcx=number(step["rcx"]))
            for n in range(step["calls"])
        )
        runs = [
            [hex(rax), hex(rdx), len(list(group))]
            for (rax, rdx), group in groupby((out["rax"], out["rdx"]) for _, out in calls)
        ]
        if runs != step["runs"]:
            self._fail(f"runs {runs[:4]}, expected {step['runs'][:4]}")
        for level in PAMT_LEVELS:
            area = pamt[level]
            got = self.machine.memory.read(number(area["pa"]), area["len"])
            if hashlib.sha256(got).hexdigest() != area["sha256"]:
                self._fail(f"{level} at {area['pa']} differs")

    # One call inside another

    def _concurrent(self, step: Line) -> None:
        outer, inner = step["outer"], step["inner"]
        reached: list[str] = []

        def run_inner() -> None:
            registers = {name: number(value) for name, value in inner["in"].items()}
            for area in inner.get("mem", ()):
                self.machine.memory.write(number(area["pa"]), contents(area))
            reached.append("inner")
            _, out = self.module.call(inner["lp"], **registers)
            self._check_registers(inner, out)

        def guarded() -> None:
            try:
                run_inner()
            except Mismatch as error:
                reached.append(str(error))

        self._prepare_memory(step)
        self._prepare_memory(outer)
        self.machine.on = {step["point"]: guarded}
        registers = {name: number(value) for name, value in outer["in"].items()}
        _, out = self.module.call(outer["lp"], **registers)
        self._check_registers(outer, out)
        if reached != ["inner"]:
            self._fail(f"inner call at {step['point']}: {reached or 'point not reached'}")

    # Events

    def _changeable(self) -> tuple[Any, ...]:
        m = self.machine
        return (m.msrs, m.cpuids, m.lp_msrs, m.lp_cpuids, m.capabilities, m.lp_capabilities)

    def _event(self, event: Line) -> None:
        getattr(self, "_on_" + event["type"])(event)

    def _on_module_load(self, event: Line) -> None:
        self.module.reload(event["keep_handoff"])

    def _on_pconfig_result(self, event: Line) -> None:
        self.machine.pconfig_result = PCONFIG_RESULTS[event["result"]]

    def _on_rdrand_fail(self, event: Line) -> None:
        self.machine.rdrand_failures = event["count"]

    def _on_msr(self, event: Line) -> None:
        self.set_msr(event["lp"], number(event["msr"]), number(event["value"]))

    def set_msr(self, lp: int | None, msr: int, value: int) -> None:
        if lp is None:
            self.machine.msrs[msr] = value
        else:
            self.machine.lp_msrs[lp, msr] = value

    def _on_cpuid(self, event: Line) -> None:
        values = (event["eax"], event["ebx"], event["ecx"], event["edx"])
        eax, ebx, ecx, edx = (number(value) for value in values)
        leaf, subleaf = number(event["leaf"]), event["subleaf"]
        self.set_cpuid(event["lp"], leaf, subleaf, (eax, ebx, ecx, edx))

    def set_cpuid(self, lp: int | None, leaf: int, subleaf: int | None, regs: Regs) -> None:
        if lp is None:
            self.machine.cpuids[leaf, subleaf] = regs
        else:
            self.machine.lp_cpuids[lp, leaf, subleaf] = regs

    def _on_seam_capabilities(self, event: Line) -> None:
        if event["lp"] is None:
            self.machine.capabilities = number(event["value"])
        else:
            self.machine.lp_capabilities[event["lp"]] = number(event["value"])

    def _on_cmr(self, event: Line) -> None:
        index = event["index"]
        self._cmrs += [[0, 0] for _ in range(index + 1 - len(self._cmrs))]
        self._cmrs[index] = [number(event["base"]), number(event["size"])]
        self._recreate()

    def _on_sysinfo(self, event: Line) -> None:
        known = {"smrr2_not_supported": "skip_smrr2", "tdx_without_integrity": "no_integrity"}
        for name, value in event.items():
            if name != "type":
                self._sysinfo[known.get(name, name)] = value
        self._recreate()

    def _on_heal(self, event: Line) -> None:
        m = self.machine
        (m.msrs, m.cpuids, m.lp_msrs, m.lp_cpuids, m.capabilities, m.lp_capabilities) = (
            copy.deepcopy(self._healthy)
        )
        self._cmrs = [[number(base), number(size)] for base, size in self._platform["cmrs"]]
        if self._sysinfo or self.module.state()["sys"] == 0:
            self._sysinfo = {}
            self._recreate()

    def _recreate(self) -> None:
        """What firmware says is fixed at seam_create(): only before TDH.SYS.INIT."""
        if self.module.state()["sys"]:
            self._fail("the platform's tables change after TDH.SYS.INIT")
        self.module = self._create()
