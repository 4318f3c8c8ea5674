# SPDX-License-Identifier: GPL-2.0-or-later
"""Platform files: inheritance, derived CMRs, and messages that name the place."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtdx.vm import platform
from vtdx.vm.errors import BadPlatform
from vtdx.vm.platform import Range

MIB = 1 << 20
GIB = 1 << 30

#: What is shipped, without what is a base and no machine.
MACHINES = [name for name in platform.shipped() if not name.endswith("-base")]

BASE = """
[platform]
summary = two sockets
[cpu]
family = 6
model = 143
stepping = 8
sockets = 2
cores = 2
threads = 1
[memory]
node0 = 2G
node1 = 2G
[msr]
0x87 = 0x200000001f
0x3a = 0x5
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A whole platform file."""
    path = tmp_path / "two.ini"
    path.write_text(BASE)
    return path


def write(folder: Path, text: str) -> str:
    """A platform file based on the whole one."""
    path = folder / "derived.ini"
    path.write_text(f"[platform]\nbase = two.ini\n{text}")
    return str(path)


def test_a_derived_platform_overrides_key_by_key(base: Path, tmp_path: Path) -> None:
    loaded = platform.load(write(tmp_path, "[msr]\n0x3a = 0x1\n"))

    assert "0x3a = 0x1" in loaded.text
    assert "0x87 = 0x200000001f" in loaded.text
    assert "base" not in loaded.text


def test_memory_of_a_derived_platform_replaces_the_base_s(base: Path, tmp_path: Path) -> None:
    loaded = platform.load(write(tmp_path, "[memory]\nnode0 = 1G\n"))

    assert loaded.nodes == (GIB,)


def test_memory_is_split_where_q35_splits_it(base: Path) -> None:
    """RAM ends at 2 GiB and goes on at 4 GiB: node 1 is all high, node 0 all low."""
    assert platform.load(str(base)).cmrs == (Range(MIB, 2 * GIB - MIB), Range(4 * GIB, 2 * GIB))


def test_little_memory_stays_low() -> None:
    """QEMU's q35 keeps RAM in one piece below 0xb0000000."""
    assert platform.ram_by_node((2 * GIB,)) == [[Range(0, 2 * GIB)]]


@given(st.lists(st.integers(1, 4096).map(lambda n: n * MIB), min_size=1, max_size=8))
def test_memory_is_neither_lost_nor_doubled(sizes: list[int]) -> None:
    placed = platform.ram_by_node(tuple(sizes))

    assert [sum(part.size for part in parts) for parts in placed] == sizes
    flat = sorted((part for parts in placed for part in parts), key=lambda part: part.base)
    assert all(one.end <= other.base for one, other in pairwise(flat))


def test_cpus_are_shared_out_over_sockets(base: Path) -> None:
    assert platform.load(str(base), cpus=8).cores == 4
    with pytest.raises(BadPlatform, match="multiple of 2"):
        platform.load(str(base), cpus=7)


def test_memory_is_shared_out_over_nodes(base: Path) -> None:
    assert platform.load(str(base), memory_bytes=8 * GIB).nodes == (4 * GIB, 4 * GIB)


def test_a_platform_with_its_own_map_keeps_its_memory(base: Path, tmp_path: Path) -> None:
    name = write(tmp_path, "[cmr]\n0 = 0x100000+1G\n")

    assert platform.load(name).cmrs == (Range(0x100000, GIB),)
    with pytest.raises(BadPlatform, match="memory map of its own"):
        platform.load(name, memory_bytes=8 * GIB)


def test_address_bits_are_what_the_tdx_module_sees(base: Path, tmp_path: Path) -> None:
    """CPUID leaf 0x80000008, EAX[7:0] (SDM vol. 2); every processor with TDX has 52."""
    fewer = write(tmp_path, "[cpuid]\n0x80000008 = 0x392e 0x200 0 0\n")

    assert platform.load(str(base)).phys_bits == 52
    assert platform.load(fewer).phys_bits == 46


def test_faults_follow_the_platform_s_own(base: Path, tmp_path: Path) -> None:
    name = write(tmp_path, "[faults]\n1 = VMXON cpu=0 vmfail\n")
    text = platform.load(name, faults=("VMXON cpu=1 vmfail",)).text

    assert "1 = VMXON cpu=0 vmfail\n2 = VMXON cpu=1 vmfail" in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[cpu]\ncores = many\n", r"\[cpu\] cores: 'many' is not a number"),
        ("[cpu]\nsockets = 0\n", r"\[cpu\] sockets: 0 is less than 1"),
        ("[memory]\nnode1 = 1G\n", r"\[memory\] node0: nodes are numbered"),
        ("[memory]\nnode0 = big\n", r"\[memory\] node0: 'big' is not a size"),
        ("[memory]\nnode0 = 1G\nreserved = 5\n", r"\[memory\] reserved: '5' is not a range"),
        ("[memory]\nnode0 = 1G\ncpuless = 1\n", r"\[memory\] cpuless: 1 is more than 0"),
        ("[cpu]\nbrand = Xeon, gold\n", r"\[cpu\] brand: 'Xeon, gold' is not 1 to 47"),
        ("[cpu]\nvendor = Intel\n", r"\[cpu\] vendor: 'Intel' is not one of GenuineIntel"),
        ("[cpuid]\n0x80000008 = 0x40 0 0 0\n", r"0x80000008: '0x40' does not begin with 36 to 52"),
        ("[cpu\n", "derived.ini"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    base: Path, tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(BadPlatform, match=words):
        platform.load(write(tmp_path, text))


@pytest.mark.parametrize("name", MACHINES)
def test_a_shipped_platform_says_what_it_is_in_a_line(name: str) -> None:
    shown = platform.load(name)

    assert ": " in shown.summary
    assert len(shown.summary) <= 100
    assert shown.brand
    assert all((shown.system.vendor, shown.system.product, shown.system.bios_version))


def test_no_two_shipped_platforms_say_the_same() -> None:
    summaries = [platform.load(name).summary for name in MACHINES]

    assert len(set(summaries)) == len(summaries)


def test_a_platform_based_on_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "loop.ini"
    path.write_text("[platform]\nbase = loop.ini\n")
    with pytest.raises(BadPlatform, match="based on itself"):
        platform.load(str(path))


def test_an_unknown_platform_lists_the_known_ones() -> None:
    with pytest.raises(BadPlatform, match="spr-2s"):
        platform.load("no-such-machine")
