# SPDX-License-Identifier: GPL-2.0-or-later
"""P-SEAMLDR as far as a host reads from it: semantics.md 5."""

from __future__ import annotations

import struct

from .binding import DONE, VMFAILINVALID
from .model_call import (
    MSR_KEYID_PARTITIONING,
    MSR_TME_ACTIVATE,
    Call,
    KeyIds,
    Platform,
    Refused,
    check_shared,
)

IS_PSEAMLDR = 1 << 63
SEAMLDR_INFO, SEAMLDR_SEAMINFO = IS_PSEAMLDR, IS_PSEAMLDR | 3
INFO_BYTES, SEAMINFO_BYTES = 256, 2048


class Pseamldr:
    """One P-SEAMLDR: one LP at a time is inside."""

    def __init__(self, platform: Platform, info: bytes) -> None:
        self._platform = platform
        self._info = info
        self._is_inside = False
        self._has_run = False

    def call(self, call: Call) -> tuple[int, int]:
        """How the instruction ends, and RAX."""
        if self._is_inside:
            return VMFAILINVALID, 0
        self._is_inside = True
        try:
            return DONE, self._platform.reference.statuses[self._answer(call)]
        finally:
            self._is_inside = False

    def _answer(self, call: Call) -> str:
        machine = self._platform.machine
        machine.hold(call.lp, call.inputs["rax"])
        if not self._has_run and machine.rdrand(call.lp) is None:
            return "PSEAMLDR_EUNSPECERR"
        self._has_run = True
        answers = {SEAMLDR_INFO: self._info, SEAMLDR_SEAMINFO: self._seaminfo()}
        if call.inputs["rax"] not in answers:
            return "PSEAMLDR_EBADPARAM"
        return self._fill(call, answers[call.inputs["rax"]])

    def _fill(self, call: Call, answer: bytes) -> str:
        config = self._platform.config
        keyids = KeyIds.of(
            self._platform.msr(call.lp, MSR_KEYID_PARTITIONING),
            self._platform.msr(call.lp, MSR_TME_ACTIVATE),
        )
        seamrr = (config["seamrr_base_pa"], config["seamrr_bytes"])
        try:
            check_shared(call.inputs["rcx"], len(answer), 0, keyids, seamrr)
        except Refused:
            return "PSEAMLDR_EBADPARAM"
        self._platform.machine.write_pa(keyids.strip(call.inputs["rcx"]), answer)
        return "PSEAMLDR_SUCCESS"

    def _seaminfo(self) -> bytes:
        """The start of P_SYS_INFO_TABLE."""
        config = self._platform.config
        out = bytearray(SEAMINFO_BYTES)
        counts = config["lps"], config["packages"]
        struct.pack_into("<QII8I", out, 0, 0, *counts, *config["package_fms"])
        out[64] = config.get("skip_smrr2", 0)
        out[65] = config.get("no_integrity", 0)
        for number, cmr in enumerate(self._platform.cmrs):
            struct.pack_into("<QQ", out, 128 + 16 * number, *cmr)
        return bytes(out)
