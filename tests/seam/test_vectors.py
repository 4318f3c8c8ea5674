# SPDX-License-Identifier: GPL-2.0-or-later
"""The library against recorded answers of the real TDX module 1.5.01."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .binding import DONE, Library
from .machine import HEALTHY_CPUID, HEALTHY_MSRS, INIT, LP_INIT, Regs
from .model import ModelLibrary
from .replay import Line, Mismatch, Replay, lines, number

# Registers of the calls whose outcomes are recorded for every flipped bit.
FLIP_INPUTS = {"rdx": 0x2222, "r8": 0x3333, "r9": 0x4444, "r10": 0x5555}
REG_INDEX = {"eax": 0, "ebx": 1, "ecx": 2, "edx": 3}


def _has_steps(line: Line) -> bool:
    return "steps" in line


@pytest.mark.parametrize("name", ["config", "bringup", "rd", "order", "concurrent", "msr"])
def test_every_recorded_sequence_is_answered_alike(
    name: str, library: Library, tdx_abi: Path
) -> None:
    replayed = 0
    mismatches = []
    for line in filter(_has_steps, lines(tdx_abi / "vectors" / f"{name}.jsonl.gz")):
        try:
            Replay(library, line).run()
        except Mismatch as error:
            mismatches.append(str(error))
        replayed += 1
    print(f"{name}: {replayed} sequences replayed, {len(mismatches)} differ")
    assert replayed
    assert not mismatches


def _apply_flip(replay: Replay, line: Line, bit: int) -> None:
    target = line["target"]
    lp = 5 if line["kind"].endswith("lpinit") else None
    value = number(line["baseline"]) ^ 1 << bit
    if "msr" in target:
        replay.set_msr(lp, number(target["msr"]), value)
        return
    leaf, subleaf = number(target["leaf"]), target["subleaf"]
    regs = list(replay.machine.cpuid(lp or 0, leaf, subleaf or 0))
    regs[REG_INDEX[target["reg"]]] = value
    replay.set_cpuid(lp, leaf, subleaf, (regs[0], regs[1], regs[2], regs[3]))


def _baseline_cpuid(platform: Line) -> dict[tuple[int, int | None], Regs]:
    return {
        (number(entry["leaf"]), entry["subleaf"]): (
            number(entry["eax"]),
            number(entry["ebx"]),
            number(entry["ecx"]),
            number(entry["edx"]),
        )
        for entry in platform["cpuid"]
    }


def _flip(
    library: Library | ModelLibrary, baseline: Line, line: Line, bit: int
) -> tuple[int, dict[str, int]]:
    replay = Replay(library, {**line, "steps": []}, baseline["platform"])
    replay.machine.cpuids = _baseline_cpuid(baseline["platform"])
    if line["kind"].endswith("lpinit"):
        assert replay.module.call(0, rax=INIT)[1]["rax"] == 0
        _apply_flip(replay, line, bit)
        return replay.module.call(5, rax=LP_INIT, rcx=0x1111, **FLIP_INPUTS)
    _apply_flip(replay, line, bit)
    return replay.module.call(0, rax=INIT, **FLIP_INPUTS)


def _flip_mismatches(library: Library | ModelLibrary, baseline: Line, line: Line) -> list[str]:
    wrong = []
    for outcome in line["outcomes"]:
        bits = number(outcome["bits"])
        want = {name: number(value) for name, value in outcome["out"].items()}
        for bit in (bit for bit in range(64) if bits >> bit & 1):
            result, out = _flip(library, baseline, line, bit)
            got = {name: out[name] for name in want}
            if result != DONE or got != want:
                wrong.append(f"{line['id']} bit {bit}: {library.status_name(out['rax'])} {got}")
    return wrong


def test_every_flipped_bit_of_an_msr_or_cpuid_register_is_judged_alike(
    library: Library, tdx_abi: Path
) -> None:
    recorded = list(lines(tdx_abi / "vectors" / "msr.jsonl.gz"))
    flips = [line for line in recorded if "outcomes" in line]
    wrong = [text for line in flips for text in _flip_mismatches(library, recorded[0], line)]
    print(f"msr: {len(flips)} lines of flipped bits")
    assert flips
    assert not wrong


def test_the_healthy_machine_is_the_recorded_baseline(tdx_abi: Path) -> None:
    platform: dict[str, Any] = next(lines(tdx_abi / "vectors" / "msr.jsonl.gz"))["platform"]
    msrs = {number(msr): number(value) for msr, value in platform["msrs"].items()}
    cpuid = _baseline_cpuid(platform)
    keyid_bits = platform["keyid_bits"] << 32
    assert {**HEALTHY_MSRS, 0x982: HEALTHY_MSRS[0x982] | keyid_bits}.items() <= msrs.items()
    for key, regs in HEALTHY_CPUID.items():
        assert cpuid[key] == regs, key


@pytest.mark.parametrize("name", ["config", "bringup", "rd", "order", "concurrent", "msr"])
def test_the_model_answers_every_recorded_sequence_alike(
    name: str, model: ModelLibrary, tdx_abi: Path
) -> None:
    for line in filter(_has_steps, lines(tdx_abi / "vectors" / f"{name}.jsonl.gz")):
        Replay(model, line).run()


def test_the_model_judges_every_flipped_bit_alike(model: ModelLibrary, tdx_abi: Path) -> None:
    recorded = list(lines(tdx_abi / "vectors" / "msr.jsonl.gz"))
    flips = [line for line in recorded if "outcomes" in line]
    assert [text for line in flips for text in _flip_mismatches(model, recorded[0], line)] == []
