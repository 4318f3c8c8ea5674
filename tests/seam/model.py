# SPDX-License-Identifier: GPL-2.0-or-later
"""A model of the TDX module's system leaves, written from the reference.

It is called like the library (binding.Module) and reaches the same kind of
machine, so whatever drives one drives the other. Its source is tdx-abi/
semantics.md and observed.md with their tables, never the library's code.
Section numbers are those of semantics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from .binding import ALL_ONES, DONE, FATAL, REGISTERS, VMFAILINVALID
from .machine import (
    CONFIG,
    DISABLE,
    GIB,
    INFO,
    INIT,
    KEY_CONFIG,
    LP_INIT,
    LP_SHUTDOWN,
    MIB,
    R8,
    R9,
    R10,
    RAX,
    RCX,
    RD,
    RDALL,
    RDX,
    SHUTDOWN,
    SYS_DISABLE,
    TDMR_INIT,
    UPDATE,
    Machine,
)
from .model_call import (
    MSR_TME_ACTIVATE,
    Call,
    Fatal,
    Platform,
    Refused,
    check_shared,
    operand_invalid,
)
from .model_config import (
    MAX_TDMRS,
    PAGE_BYTES,
    PAMT_ENTRY_BYTES,
    UP,
    Limits,
    ModelTdmr,
    fetch,
)
from .model_metadata import CMR_ENTRIES, INFO_BYTES, Handoff, Metadata, Unspecified
from .model_platform import InitChecks, LpInitChecks, Sample
from .model_pseamldr import IS_PSEAMLDR, Pseamldr
from .model_reference import Reference

PENDING, INIT_DONE, CONFIG_DONE, READY, SHUT_DOWN = range(5)

BEFORE_READY = {KEY_CONFIG, INFO, INIT, RD, LP_INIT, RDALL, LP_SHUTDOWN, CONFIG, UPDATE}
SYS_LEAVES = BEFORE_READY | {TDMR_INIT, SHUTDOWN}
WITH_VERSIONS = {3, 11, 23, 26, 30}
LATER_WITH_VERSIONS = WITH_VERSIONS | {22, INIT, CONFIG, UPDATE}

EXCLUSIVE = {INIT, CONFIG, KEY_CONFIG, SHUTDOWN, UPDATE}
ON_ENTRY: Mapping[int, Mapping[str, int]] = {
    INIT: dict.fromkeys(("rcx", "rdx", "r8", "r9", "r10"), 0),
    LP_INIT: dict.fromkeys(("rcx", "rdx", "r8"), 0),
    TDMR_INIT: {"rdx": 0},
    INFO: {"rdx": 0, "r9": 0},
    RD: {"rdx": ALL_ONES, "r8": 0},
    RDALL: {"r8": ALL_ONES},
}
OPERAND_KET = 187
PCONFIG_SUCCESS, PCONFIG_ENTROPY, PCONFIG_BUSY = 0, 2, 5
PCONFIG_SET_RANDOM = 1
TDMR_INIT_STEP = 4 * MIB
HANDOFF_BYTES = 53386
# Of a PAMT entry, as the recorded PAMTs have it: vectors/bringup.jsonl.gz.
PAMT_TYPE_AT, RESERVED_PAGE = 2, 1


@dataclass
class State:
    """Everything that a freshly loaded TDX module has not got."""

    sys: int = PENDING
    sample: Sample = field(default_factory=Sample)
    package_of: dict[int, int] = field(default_factory=dict)
    keyed: int = 0
    keyed_bitmap: set[int] = field(default_factory=set)
    tdmrs: list[ModelTdmr] = field(default_factory=list)
    hkid: int = 0
    has_stopped: bool = False
    is_disabling: bool = False
    disabled_gib: int = 0


@dataclass(frozen=True)
class HandedOn:
    """What TDH.SYS.SHUTDOWN leaves for TDH.SYS.UPDATE, beside its header."""

    tdmrs: list[ModelTdmr]
    hkid: int
    keyed_bitmap: set[int]


class ModelModule:
    """One TDX module and its loader: call(), reload(), state() as binding.Module has."""

    def __init__(self, platform: Platform, unspecified: Unspecified) -> None:
        self._platform = platform
        self._statuses = platform.reference.statuses
        self._metadata = Metadata(platform, unspecified)
        self._pseamldr = Pseamldr(platform, unspecified.seamldr_info)
        self._fresh()
        self._handoff = Handoff()
        self._handed_on = HandedOn([], 0, set())

    def _fresh(self) -> None:
        self._state = State()
        self._inside: list[int] = []
        self._exclusive = False
        self._shared = 0
        self._locked_tdmrs: set[int] = set()

    def reload(self, keep_handoff: bool) -> None:
        self._fresh()
        if not keep_handoff:
            self._handoff = Handoff()

    def state(self) -> dict[str, int]:
        state = self._state
        return {"sys": state.sys, "lps": len(state.package_of), "packages": state.keyed}

    @property
    def _machine(self) -> Machine:
        return self._platform.machine

    @property
    def _seamrr(self) -> tuple[int, int]:
        return self._platform.config["seamrr_base_pa"], self._platform.config["seamrr_bytes"]

    # The way in and out

    def call(self, lp: int, **registers: int) -> tuple[int, dict[str, int]]:
        """One SEAMCALL: how the instruction ended, and all registers after it."""
        regs = {name: registers.get(name, 0) for name in REGISTERS}
        call = Call(lp, regs)
        if self._state.has_stopped:
            ending, status = FATAL, 0
        elif regs["rax"] & IS_PSEAMLDR:
            ending, status = self._pseamldr.call(call)
        else:
            ending, status = self._enter(call)
        if ending != DONE:
            return ending, regs
        return ending, {**regs, **call.outputs, "rax": status}

    def _enter(self, call: Call) -> tuple[int, int]:
        if not self._platform.config["loaded"]:
            return VMFAILINVALID, 0
        try:
            self._dispatch(call)
        except Refused as refused:
            call.outputs.update(refused.outputs)
            return DONE, self._statuses[refused.status] | refused.detail
        except Fatal:
            self._state.has_stopped = True
            return FATAL, 0
        return DONE, self._statuses["TDX_SUCCESS"]

    def _has_disable(self) -> bool:
        return bool(self._platform.config.get("tdx_features0", 0) & SYS_DISABLE)

    def _dispatch(self, call: Call) -> None:
        """1.5; then, once TDH.SYS.DISABLE has begun, it alone (3.10)."""
        state, extra = self._state, {DISABLE} if self._has_disable() else set()
        with_versions = LATER_WITH_VERSIONS if self._platform.is_later else WITH_VERSIONS
        if call.inputs["rax"] >> 24 or (call.version and call.leaf not in with_versions):
            operand_invalid(RAX)
        if state.sys == SHUT_DOWN and call.leaf != LP_SHUTDOWN:
            raise Refused("TDX_SYS_SHUTDOWN")
        if state.sys != READY and call.leaf not in BEFORE_READY | extra | {LP_SHUTDOWN}:
            raise Refused("TDX_SYS_NOT_READY")
        if call.leaf not in SYS_LEAVES | extra or call.version > 1:
            operand_invalid(RAX)
        if state.is_disabling and call.leaf != DISABLE:
            raise Refused("TDX_SYS_BUSY")
        self._inside.append(call.lp)
        try:
            self._leaf(call)
        finally:
            self._inside.remove(call.lp)

    def _leaf(self, call: Call) -> None:
        call.outputs.update(ON_ENTRY.get(call.leaf, {}))
        with self._locks(call):
            self._machine.hold(call.lp, call.leaf)
            self._bodies[call.leaf](self, call)

    @contextmanager
    def _locks(self, call: Call) -> Iterator[None]:
        """4: tried once; TDMR.INIT and SHUTDOWN look at RCX before that."""
        if call.leaf == SHUTDOWN:
            self._check_handoff_version(call.inputs["rcx"])
        if call.leaf == DISABLE:
            self._begin_disable()
        if call.leaf == TDMR_INIT:
            with self._tdmr_lock(self._tdmr_of(call.inputs["rcx"])):
                yield
        elif call.leaf in EXCLUSIVE:
            with self._exclusive_lock():
                yield
        elif call.leaf == LP_INIT:
            with self._shared_lock():
                yield
        else:
            yield

    @contextmanager
    def _exclusive_lock(self) -> Iterator[None]:
        if self._exclusive or self._shared:
            raise Refused("TDX_SYS_BUSY")
        self._exclusive = True
        try:
            yield
        finally:
            self._exclusive = False

    @contextmanager
    def _shared_lock(self) -> Iterator[None]:
        if self._exclusive:
            raise Refused("TDX_SYS_BUSY")
        self._shared += 1
        try:
            yield
        finally:
            self._shared -= 1

    @contextmanager
    def _tdmr_lock(self, tdmr: ModelTdmr) -> Iterator[None]:
        if tdmr.base in self._locked_tdmrs:
            raise Refused("TDX_OPERAND_BUSY", RCX)
        self._locked_tdmrs.add(tdmr.base)
        try:
            yield
        finally:
            self._locked_tdmrs.remove(tdmr.base)

    # 3.1 to 3.4: to the state ready

    def _init(self, call: Call) -> None:
        if call.inputs["rcx"]:
            operand_invalid(RCX)
        # No fatal-error diagnostics are offered: no configuration for them is good.
        if call.version and call.inputs["r8"]:
            operand_invalid(R8)
        if self._state.sys != PENDING:
            raise Refused("TDX_SYS_INIT_NOT_PENDING")
        sample = InitChecks(self._platform, call.lp).run()
        self._state = State(sys=INIT_DONE, sample=sample)

    def _lp_init(self, call: Call) -> None:
        if self._state.sys != INIT_DONE:
            raise Refused("TDX_SYS_LP_INIT_NOT_PENDING")
        if call.lp in self._state.package_of:
            raise Refused("TDX_SYS_LP_INIT_DONE")
        package = LpInitChecks(self._platform, call.lp, self._state.sample).run()
        self._state.package_of[call.lp] = package

    def _are_lps_missing(self) -> bool:
        return len(self._state.package_of) < int(self._platform.config["lps"])

    def _config(self, call: Call) -> None:
        if self._state.sys != INIT_DONE or self._are_lps_missing():
            raise Refused("TDX_SYS_CONFIG_NOT_PENDING")
        array, count, r8 = (call.inputs[name] for name in ("rcx", "rdx", "r8"))
        keyids = self._state.sample.keyids
        check_shared(array, 512, RCX, keyids, self._seamrr)
        if not 1 <= count <= MAX_TDMRS:
            operand_invalid(RDX)
        if r8 >> 16 or not keyids.first_private <= r8 <= keyids.last_private:
            operand_invalid(R8)
        if call.version:
            self._check_features(call)
        self._state.hkid = r8
        limits = Limits(keyids, self._seamrr, self._platform.cmrs)
        self._state.tdmrs = fetch(self._machine, limits, array, count)
        self._state.keyed_bitmap = set()
        self._state.sys = CONFIG_DONE

    def _check_features(self, call: Call) -> None:
        """Version 1 of later modules: 3.3.7, 3.9."""
        offered = int(self._platform.config.get("tdx_features0") or 0)
        if call.inputs["r9"] & ~offered:
            operand_invalid(R9)
        if call.inputs["r10"]:
            operand_invalid(R10)

    def _key_config(self, call: Call) -> None:
        state = self._state
        if state.sys != CONFIG_DONE:
            raise Refused("TDX_SYS_KEY_CONFIG_NOT_PENDING")
        package = state.package_of[call.lp]
        if package in state.keyed_bitmap:
            raise Refused("TDX_KEY_CONFIGURED")
        ctrl = PCONFIG_SET_RANDOM | self._algorithm() << 8
        result = self._machine.pconfig(call.lp, state.hkid, ctrl)
        if result == PCONFIG_ENTROPY:
            raise Refused("TDX_KEY_GENERATION_FAILED")
        if result == PCONFIG_BUSY:
            raise Refused("TDX_OPERAND_BUSY", OPERAND_KET)
        if result != PCONFIG_SUCCESS:
            raise Fatal(f"PCONFIG {result}")
        state.keyed_bitmap.add(package)
        state.keyed += 1
        if state.keyed == self._platform.config["packages"]:
            state.sys = READY

    def _algorithm(self) -> int:
        """256 bits before 128, of the kind that firmware runs."""
        activated = self._state.sample.msrs[MSR_TME_ACTIVATE] >> 48
        is_plain = bool(self._platform.config.get("no_integrity"))
        long, short = (1 << 2, 1 << 0) if is_plain else (1 << 3, 1 << 1)
        return long if activated & long else short

    # 3.5

    def _tdmr_of(self, base: int) -> ModelTdmr:
        by_base = {tdmr.base: tdmr for tdmr in self._state.tdmrs}
        if base % GIB or not self._state.sample.keyids.is_plain(base) or base not in by_base:
            operand_invalid(RCX)
        return by_base[base]

    def _tdmr_init(self, call: Call) -> None:
        tdmr = self._tdmr_of(call.inputs["rcx"])
        if tdmr.position >= tdmr.end:
            raise Refused("TDX_TDMR_ALREADY_INITIALIZED")
        for level in UP:
            self._write_pamt(tdmr, level)
        tdmr.position += TDMR_INIT_STEP
        call.outputs["rdx"] = tdmr.position // GIB * GIB

    def _write_pamt(self, tdmr: ModelTdmr, level: int) -> None:
        """The entries of one level for the next 4 MiB; reserved 4K pages say so."""
        offset = tdmr.position - tdmr.base
        first, page = offset // PAGE_BYTES[level], PAGE_BYTES[level]
        entries = bytearray(-(-TDMR_INIT_STEP // page) * PAMT_ENTRY_BYTES)
        for start, size in tdmr.reserved if not level else ():
            end = min(start + size, offset + TDMR_INIT_STEP)
            for at in range(max(start, offset), end, page):
                entries[(at - offset) // page * PAMT_ENTRY_BYTES + PAMT_TYPE_AT] = RESERVED_PAGE
        self._machine.write_pa(tdmr.pamts[level][0] + first * PAMT_ENTRY_BYTES, bytes(entries))

    # 3.6

    def _check_lp(self, lp: int) -> None:
        if lp not in self._state.package_of:
            raise Refused("TDX_SYS_LP_INIT_NOT_DONE")

    def _rd(self, call: Call) -> None:
        self._check_lp(call.lp)
        rdx, r8 = self._metadata.read(call.inputs["rdx"], self._handoff)
        call.outputs.update(rdx=rdx, r8=r8)

    def _check_buffer(self, pa: int, align: int, operand: int) -> int:
        keyids = self._state.sample.keyids
        check_shared(pa, align, operand, keyids, self._seamrr)
        return keyids.strip(pa)

    def _rdall(self, call: Call) -> None:
        self._check_lp(call.lp)
        page = self._check_buffer(call.inputs["rdx"], 4096, RDX)
        values = self._metadata.read_all(call.inputs["r8"], self._handoff)
        self._machine.write_pa(page, values)

    def _info(self, call: Call) -> None:
        self._check_lp(call.lp)
        info = self._check_buffer(call.inputs["rcx"], INFO_BYTES, RCX)
        if call.inputs["rdx"] < INFO_BYTES:
            operand_invalid(RDX)
        self._machine.write_pa(info, bytes(INFO_BYTES))
        cmrs = self._check_buffer(call.inputs["r8"], 512, R8)
        if call.inputs["r9"] < CMR_ENTRIES:
            operand_invalid(R9)
        self._machine.write_pa(info, self._metadata.info(self._handoff))
        self._machine.write_pa(cmrs, self._metadata.cmr_info())
        call.outputs.update(rdx=INFO_BYTES, r9=CMR_ENTRIES)

    # 3.7 to 3.9

    def _lp_shutdown(self, call: Call) -> None:
        """An empty leaf."""

    def _versions(self) -> tuple[int, int]:
        config: Mapping[str, Any] = self._platform.config
        return config.get("min_update_hv", 0), config.get("module_hv", 0)

    def _check_handoff_version(self, rcx: int) -> None:
        if self._platform.is_later:
            if rcx >> 17:
                operand_invalid(RCX)
            rcx &= 0xFFFF
        lowest, own = self._versions()
        is_other = bool(self._platform.config.get("no_downgrade")) and rcx != own
        if not lowest <= rcx <= own or is_other:
            operand_invalid(RCX)

    def _shutdown(self, call: Call) -> None:
        if self._inside != [call.lp]:
            raise Refused("TDX_SYS_BUSY")
        state = self._state
        version = call.inputs["rcx"] & 0xFFFF
        self._handoff = Handoff(valid=True, version=version, size=HANDOFF_BYTES)
        self._handed_on = HandedOn(state.tdmrs, state.hkid, state.keyed_bitmap)
        state.sys = SHUT_DOWN

    def _update(self, call: Call) -> None:
        state = self._state
        if state.sys != INIT_DONE or self._are_lps_missing():
            raise Refused("TDX_SYS_STATE_INCORRECT")
        if call.version:
            self._check_features(call)
        lowest, own = self._versions()
        if not self._handoff.valid or not lowest <= self._handoff.version <= own:
            raise Refused("TDX_SYS_INVALID_HANDOFF")
        handed_on = self._handed_on
        state.tdmrs, state.hkid = handed_on.tdmrs, handed_on.hkid
        state.keyed_bitmap = handed_on.keyed_bitmap
        self._handoff = replace(self._handoff, valid=False)
        state.sys = READY

    # 3.10

    def _begin_disable(self) -> None:
        """Locks new leaves out, whether or not others are still inside."""
        self._state.is_disabling = True
        if len(self._inside) > 1:
            raise Refused("TDX_SYS_BUSY")

    def _disable(self, call: Call) -> None:
        state = self._state
        total = sum(tdmr.size for tdmr in state.tdmrs) // GIB
        while state.disabled_gib < total:
            state.disabled_gib += 1
            if state.disabled_gib < total and self._machine.interrupt_pending(call.lp):
                raise Refused("TDX_INTERRUPTED_RESUMABLE")
        self._handoff = Handoff()
        self._state = State()

    _bodies: Mapping[int, Callable[[ModelModule, Call], None]] = {
        INIT: _init,
        LP_INIT: _lp_init,
        CONFIG: _config,
        KEY_CONFIG: _key_config,
        TDMR_INIT: _tdmr_init,
        RD: _rd,
        RDALL: _rdall,
        INFO: _info,
        LP_SHUTDOWN: _lp_shutdown,
        SHUTDOWN: _shutdown,
        UPDATE: _update,
        DISABLE: _disable,
    }


class ModelLibrary:
    """The model as binding.Library: what replays recorded answers takes either."""

    def __init__(self, reference: Reference, unspecified: Unspecified) -> None:
        self.reference = reference
        self._unspecified = unspecified
        self._names = {value: name for name, value in reversed(list(reference.statuses.items()))}

    def create(self, config: Mapping[str, Any], machine: Machine) -> ModelModule:
        return ModelModule(Platform(machine, config, self.reference), self._unspecified)

    def status_name(self, status: int) -> str | None:
        return self._names.get(status & ~0xFFFFFFFF)

    def leaf_name(self, rax: int) -> NoReturn:
        raise NotImplementedError("the model has no names of leaves")
