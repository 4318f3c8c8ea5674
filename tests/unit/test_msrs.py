# SPDX-License-Identifier: GPL-2.0-or-later
"""MSRs against the reference: names, bits, and what the TDX module refuses."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tdxhost.msrs import FIRMWARE, MODULE, Msr, MsrTable, WrongBits, parse_bits
from tests.seam.model_call import Refused
from tests.seam.model_platform import InitChecks
from tests.seam.model_reference import Reference, load

#: The first example reads tables, and machines are slow at times.
UNHURRIED = settings(deadline=None)
TABLE = MsrTable.load()
#: Healthy for the TDX module, as recorded (tdx-abi/vectors, baseline).
ARCH_CAPABILITIES = 0x12AFD6B
#: Whether these are refused depends on other registers as well.
NOT_ALONE = {0x87, 0x98, 0x99, 0x1F2, 0x1F3, 0x1F6, 0x1F7}
#: The others that TDH.SYS.INIT or TDH.SYS.LP.INIT reads.
ALONE = (
    *(0x3B, 0xBC, 0xBD, 0xCF, 0xFE, 0x10A, 0x1A0, 0x345, 0x480, 0x485, 0x486, 0x487, 0x488, 0x489),
    *(0x48B, 0x48C, 0x48D, 0x48E, 0x48F, 0x490, 0x492, 0x981, 0x982),
)


def _yaml(shared: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = (shared / "tdx-abi/msrs-cpuid.yaml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=loader)


def _vectors(shared: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(shared / "tdx-abi/vectors/msr.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _healthy(shared: Path) -> dict[int, int]:
    msrs = next(_vectors(shared))["platform"]["msrs"]
    return {int(address, 16): int(value, 16) for address, value in msrs.items()}


@dataclass
class Host:
    """A host with the recorded healthy values, one of them changed."""

    reference: Reference = field(repr=False)
    values: dict[int, int] = field(repr=False)
    config: dict[str, Any] = field(default_factory=dict)
    cmrs: tuple[tuple[int, int], ...] = ()
    machine: Any = None

    def msr(self, _lp: int, address: int) -> int:
        return self.values[address]

    def is_refused(self) -> bool:
        """Whether the model of TDH.SYS.INIT refuses the MSRs (it is proven on the vectors)."""
        # Bit 5 of CPUID 7.0 ECX (WAITPKG), as IA32_VMX_PROCBASED_CTLS2 has it.
        waitpkg = self.values[0x48B] >> 58 & 1
        self.machine = SimpleNamespace(cpuid=lambda *_: (0, 0, waitpkg << 5, 0))
        checks = InitChecks(self, 0)  # type: ignore[arg-type]
        try:
            checks._capability_msrs()
            checks._vmx_msrs()
            checks._key_msrs()
            checks._smrrs()
        except Refused:
            return True
        return False


def test_bits_are_named_as_the_reference_names_them(shared: Path) -> None:
    for row in _yaml(shared)["host_msrs"]:
        msr = TABLE.by_address[row["address"]]
        named = {(bits.high, bits.low): bits.name for bits in msr.fields}
        for bits in row.get("fields", ()):
            if bits["name"] == "production part flag as used by the attestation scripts":
                continue
            assert named[parse_bits(bits["bits"])] == bits["name"].replace(" ", "_").replace(
                "_(BOOT_NT4)", " (BOOT_NT4)"
            )


def test_every_msr_that_other_cpus_are_compared_in_says_so(shared: Path) -> None:
    steps = _yaml(shared)["verified_by_module"]["sys_lp_init_order"]
    read = {address for step in steps for address in step.get("msrs", ())}
    # Read, and not compared: 0x122 is only changed, 0x1a0 has a wanted bit.
    assert {msr.address for msr in TABLE.by_address.values() if msr.compared} == read - {
        0x122,
        0x1A0,
    }


def test_control_rules_are_those_of_the_reference(shared: Path) -> None:
    requirements = _yaml(shared)["vmx_control_requirements"]
    for group in (requirements["td"], requirements["nested_vm"]):
        for row in group.values():
            if row["msr"] == 0x492:
                assert TABLE.by_address[0x492].rules[0].needs["ones"] & row["init"] == row["init"]
                continue
            rules = [rule.needs for rule in TABLE.by_address[row["msr"]].rules]
            wanted = {key: row[key] for key in ("init", "variable", "unknown")}
            assert wanted in [{key: needs[key] for key in wanted} for needs in rules]


def test_healthy_values_have_nothing_wrong(shared: Path) -> None:
    healthy = _healthy(shared)
    for address in healthy.keys() & TABLE.by_address.keys():
        assert TABLE.by_address[address].wrong(healthy[address]) == (), hex(address)


def test_the_tdx_module_refuses_what_the_recorded_one_refused(shared: Path) -> None:
    seen = 0
    for line in _vectors(shared):
        if line["kind"] != "msr-init":
            continue
        address = int(line["target"]["msr"], 16)
        if address in NOT_ALONE or address not in TABLE.by_address:
            continue
        for outcome in line["outcomes"]:
            for bit in range(64):
                if int(outcome["bits"], 16) >> bit & 1:
                    value = int(line["baseline"], 16) ^ 1 << bit
                    wrong = TABLE.by_address[address].refused(value)
                    assert bool(wrong) == (outcome["status"] != "TDX_SUCCESS"), (address, bit)
                    seen += 1
    assert seen >= 2 * 64


@pytest.fixture(scope="module")
def healthy_host(shared: Path) -> Host:
    return Host(load(shared / "tdx-abi"), _healthy(shared))


@pytest.mark.parametrize("address", ALONE, ids=hex)
def test_a_flipped_bit_is_refused_as_the_model_does(healthy_host: Host, address: int) -> None:
    msr, healthy = TABLE.by_address[address], healthy_host.values
    for bit in range(64):
        value = healthy[address] ^ 1 << bit
        is_refused = replace(healthy_host, values=healthy | {address: value}).is_refused()
        # 0x48b bits 26 and 28 follow other registers, and are left alone.
        if not (address == 0x48B and bit % 32 in (26, 28)):
            assert bool(msr.refused(value)) == is_refused, f"bit {bit}"


@UNHURRIED
@given(value=st.integers(0, 2**64 - 1))
def test_any_value_is_judged_as_the_model_does(healthy_host: Host, value: int) -> None:
    for address in (0x10A, 0x480, 0x485, 0x48C, 0x48D, 0x48E, 0x48F, 0x490, 0x492):
        values = healthy_host.values | {address: value}
        is_refused = replace(healthy_host, values=values).is_refused()
        assert bool(TABLE.by_address[address].refused(value)) == is_refused


@pytest.mark.parametrize(
    ("address", "value", "wrong"),
    [
        (0x10A, ARCH_CAPABILITIES & ~(1 << 8), [(8, 8, "TAA_NO", 0, "1")]),
        (0x10A, ARCH_CAPABILITIES | 1 << 2, [(2, 2, "RSBA", 1, "0")]),
        (0xBD, 0x3, [(63, 1, "RESERVED", 1, "0")]),
        (0x480, 0xD8080100000016, [(44, 32, "VMCS_REGION_SIZE", 2049, "at most 2048")]),
        (0x485, 0x7000C1E7, [(24, 16, "CR3_TARGETS", 0, "at least 4")]),
        (0x982, 0x3, [(51, 48, "", 0, "at least 1")]),
        (0x48D, 0xF700000016, [(35, 35, "NMI_EXITING allowed to be 1", 0, "1")]),
        (0x48D, 0xFF00000056, [(6, 6, "PREEMPTION_TIMER fixed to 1", 1, "0")]),
        (0x87, 0x10000003F, [(63, 32, "NUM_TDX_PRIV_KIDS", 1, "at least 2")]),
        (0x87, 0x40000000400, [(63, 0, "bits 31:0 plus bits 63:32", 2048, "at most 2047")]),
        (0x3A, 0x1, [(2, 2, "VMX_OUTSIDE_SMX", 0, "1")]),
        (0x1401, 0xFFFFFFE000400, [(11, 11, "VALID", 0, "1")]),
        (0x1400, 0xC0000000, [(3, 3, "CONFIGURED", 0, "1")]),
        (0xA0, 0xC0DE, [(63, 0, "SGX_MCU_ERRORCODE", 0xC0DE, "0")]),
        (0x1F3, 0xFF800800, [(10, 10, "LOCK", 0, "1")]),
        (0x1F3, 0xF0F00C00, [(31, 12, "MASK", 0xF0F00, "")]),
        (0xFE, 0x850A, [(11, 11, "SMRR", 0, "1"), (14, 14, "SMRR_LOCK", 0, "1")]),
        (0x1A0, 0x850089 | 1 << 22, [(22, 22, "LIMIT_CPUID_MAXVAL (BOOT_NT4)", 1, "0")]),
    ],
)
def test_what_is_wrong_is_named(
    address: int, value: int, wrong: list[tuple[int, int, str, int, str]]
) -> None:
    found = TABLE.by_address[address].wrong(value)
    assert found
    for told, (high, low, name, number, wanted) in zip(found, wrong, strict=True):
        assert (told.high, told.low, told.found) == (high, low, number)
        assert told.name == name or not name
        assert told.wanted == wanted or not wanted


def test_it_is_told_whether_the_tdx_module_or_firmware_wants_it() -> None:
    tme_off = TABLE.by_address[0x982].wrong(0xF001600000001)
    assert [(wrong.name, wrong.by) for wrong in tme_off] == [("TME_ENABLE", FIRMWARE)]
    unlocked = TABLE.by_address[0x982].wrong(0xF001600000002)
    assert [(wrong.name, wrong.by) for wrong in unlocked] == [("LOCK", MODULE)]
    assert TABLE.by_address[0x982].refused(0xF001600000001) == ()


@pytest.mark.parametrize("msr", TABLE.by_address.values(), ids=lambda msr: msr.name)
@UNHURRIED
@given(value=st.integers(0, 2**64 - 1))
def test_fields_put_together_give_the_value(msr: Msr, value: int) -> None:
    assert sum(number << bits.low for bits, number in msr.describe(value)) == value
    for wrong in msr.wrong(value):
        assert isinstance(wrong, WrongBits)
        assert 0 <= wrong.low <= wrong.high < 64


def test_an_msr_outside_the_table_is_shown_bit_by_bit() -> None:
    shown = TABLE.describe(0x9FB, 0x5)
    assert [(bits.label, number) for bits, number in shown] == [("bit 0", 1), ("bit 2", 1)]
