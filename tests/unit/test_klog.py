# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel logs in every format: what they say, and what is wrong."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdxhost.klog.diagnoser import Diagnoser
from tdxhost.klog.diagnosis import Diagnosis, Kind
from tdxhost.klog.lines import LogReader, plain_text
from tdxhost.leaves import MODULE_LEAVES

#: The first example reads tables, and machines are slow at times.
UNHURRIED = settings(deadline=None)
SAMPLES = Path(__file__).resolve().parents[1] / "data/klog"
READER = LogReader.load()
DIAGNOSER = Diagnoser()

TEXT = "virt/tdx: BIOS enabled: private KeyID range [32, 64)"
PREFIXES = (
    "",
    "  ",
    "[    8.972357] ",
    "[    8.972357][    T1] ",
    "[    8.972357] [ T4021] ",
    "[  +0.000003] ",
    "[Sep20 10:14] ",
    "[Wed Sep 13 12:04:49 2023] ",
    "[三 9月 13 12:04:49 2023] ",
    "[mer. sept. 13 12:04:49 2023] ",
    "2023-09-13T12:04:49,123456+02:00 ",
    "Sep 13 12:04:49 node1 kernel: ",
    "Sep 13 12:04:49 node1 kernel: [    8.972357] ",
    "9月 13 12:04:49 node1 kernel: ",
    "13 sept. 12:04:49 node1 kernel: ",
    "2023-09-13T12:04:49+0200 node1 kernel: ",
    "2023-09-13T12:04:49.123456+02:00 node1 kernel: [    8.972357] ",
    "Wed 2023-09-13 12:04:49 UTC node1 kernel: ",
    "6,339,5140900,-;",
    "6,339,5140900,c,caller=T1;",
    "<6>[    8.972357] ",
    "kern  :info  : [    8.972357] ",
    "kern  :info  : [Wed Sep 13 12:04:49 2023] ",
    "kernel: ",
    "[] ",
    "[..] ",
)
REGISTERS = ("rcx", "rdx", "r8", "r9", "r10", "r11")


def _diagnose(*lines: str) -> Diagnosis:
    return DIAGNOSER.diagnose(lines)


def _causes(*lines: str) -> list[str]:
    return [finding.cause for finding in _diagnose(*lines).findings]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_stands_before_the_text_is_taken_off(prefix: str) -> None:
    assert plain_text(f"{prefix}{TEXT}\n") == TEXT
    (event,) = READER.read([prefix + TEXT]).events
    assert (event.id, event.words) == ("keyids", {"first": "32", "end": "64"})


def test_a_bracket_that_belongs_to_the_text_stays() -> None:
    text = "[firmware bug]: TDX is not enabled by BIOS."
    assert plain_text(text) == text
    assert READER.read([text]).has("seam-off")


def _linux_6_8(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    first, last = [list(regs.items())[part] for part in (slice(0, 3), slice(3, 6))]
    return [
        f"virt/tdx: SEAMCALL (0x{leaf:016x}) failed: 0x{status:016x}",
        "virt/tdx: " + " ".join(f"{_padded(name)} 0x{value:016x}" for name, value in first),
        "virt/tdx: " + " ".join(f"{_padded(name)} 0x{value:016x}" for name, value in last),
    ]


def _padded(name: str) -> str:
    return re.sub(r"^R(?=[89]$)", "R0", name.upper())


def _one_line(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    told = " ".join(f"{name.upper()} 0x{value:016x}" for name, value in regs.items())
    return [f"SEAMCALL (0x{leaf:016x}) failed: 0x{status:016x} {told}"]


def _decimal(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    return [f"virt/tdx: SEAMCALL ({leaf}) failed: 0x{status:016x}", *_output(regs, "virt/tdx: ")]


def _tree_6_2(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    told = _output(regs, "tdx: additional output: ")
    return [f"tdx: SEAMCALL failed: leaf {leaf}, error 0x{status:x}.", f"{told[0]}."]


def _tree_6_5(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    told = _output(regs, "tdx: additional output: ")
    return [f"tdx: SEAMCALL failed: CPU 7: leaf {leaf}, error 0x{status:x}.", f"{told[0]}."]


def _tree_6_0(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    told = _output(regs, "tdx: SEAMCALL additional output: ")
    return [f"tdx: SEAMCALL failed: leaf: 0x{leaf:x}, error: 0x{status:x}", f"{told[0]}."]


def _tree_5_15(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    name = _name(leaf).replace(".", "_")
    told = _output(regs, "", upper=True)
    return [f"seam: SEAMCALL[{name}] failed on cpu 7: TDX_SAMPLE (0x{status:x})", *told]


def _tree_5_15_number(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    return [f"SEAMCALL[0x{leaf:x}] failed: 0x{status:x}", *_output(regs, "", upper=True)]


def _kvm_6_16(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    name = _name(leaf).replace(".", "_")
    return [f"kvm_intel: SEAMCALL {name} failed: 0x{status:x}, {_output(regs, '')[0]}"]


def _kvm_tree(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    told = _output(regs, "", upper=True, comma="")
    return [f"kvm_intel: SEAMCALL[{_name(leaf)}] failed: 0x{status:x} {told[0]}"]


def _by_leaf(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    return [f"SEAMCALL leaf {leaf} failed: 0x{status:x}", *_output(regs, "")]


def _driver(leaf: int, status: int, regs: dict[str, int]) -> list[str]:
    text = f"{_name(leaf)}: TDX_SAMPLE 0x{status:016x} (-5)"
    return [f"tdxhost: tdx_enable() failed on CPU 7: {text}"]


def _name(leaf: int) -> str:
    return MODULE_LEAVES[leaf].partition(" / ")[0]


def _output(
    regs: dict[str, int], start: str, *, upper: bool = False, comma: str = ","
) -> list[str]:
    named = ((name.upper() if upper else name, value) for name, value in regs.items())
    return [start + f"{comma} ".join(f"{name} 0x{value:x}" for name, value in named)]


FORMATS = (
    *(
        _linux_6_8,
        _one_line,
        _decimal,
        _tree_6_5,
        _tree_6_2,
        _tree_6_0,
        _tree_5_15,
        _tree_5_15_number,
    ),
    *(_kvm_6_16, _kvm_tree, _by_leaf, _driver),
)
WORDS = st.integers(0, 2**64 - 1)
#: The debug leaf has a name of another kind, which no kernel has printed by name.
LEAVES = st.sampled_from([leaf for leaf, name in MODULE_LEAVES.items() if name.startswith("TDH.")])


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.__name__[1:])
@UNHURRIED
@given(
    leaf=LEAVES,
    status=WORDS,
    values=st.tuples(*[WORDS] * len(REGISTERS)),
    prefix=st.sampled_from(PREFIXES),
)
def test_a_printed_failure_is_read_back(
    form: object, leaf: int, status: int, values: tuple[int, ...], prefix: str
) -> None:
    assert callable(form)
    registers = dict(zip(REGISTERS, values, strict=True))
    lines = [prefix + line for line in form(leaf, status, registers)]
    (call,) = READER.read(lines).calls
    assert (call.leaf, call.status) == (leaf, status)
    if form is not _driver:
        assert call.registers == registers
    if form in (_driver, _tree_5_15, _tree_6_5):
        assert call.cpu == 7


@pytest.mark.parametrize(
    ("name", "leaf"),
    [
        ("TDSYSINITLP", 35),
        ("TDH_SYS_LP_INIT", 35),
        ("tdh_mng_init()", 21),
        ("SEAMLDR.INFO", 1 << 63),
    ],
)
def test_leaves_are_known_by_every_name_that_was_printed(name: str, leaf: int) -> None:
    (call,) = READER.read([f"SEAMCALL {name.removesuffix('()')} failed: 0xc000010000000000"]).calls
    assert call.leaf == leaf


def test_registers_between_lines_of_others_are_taken() -> None:
    log = READER.read(
        [
            "[1.0] virt/tdx: SEAMCALL (0x0000000000000021) failed: 0xc000090000000000",
            "[1.0] usb 1-1: new high-speed USB device number 2",
            "[1.0] virt/tdx: RCX 0x0000000000000007 RDX 0x0000000000000000 R08 0x0000000010000000",
        ]
    )
    assert log.calls[0].registers == {"rcx": 7, "rdx": 0, "r8": 0x10000000}


def test_registers_of_an_oops_are_not_taken_for_those_of_a_call() -> None:
    log = READER.read(
        [
            "[1.0] virt/tdx: SEAMCALL (0x0000000000000021) failed: 0xc000090000000000",
            "[1.1] RDX: 0000000000000001 RSI: ffffffff82a00000 RDI: 0000000000000000",
            "[1.2] tdx_cpu_enable: rcx 0x1 while rdx 0x2 was expected",
        ]
    )
    assert log.calls[0].registers == {}


@pytest.mark.parametrize(
    ("sample", "causes"),
    [
        ("kvm-6.16-td.journal", ["td-create", "td-runtime", "host-ok"]),
        ("linux-6.17-hibernation.log", ["hibernation"]),
        ("linux-6.8-cpuid.journal", ["cpuid-value"]),
        ("linux-6.8-nosmt.syslog", ["cpus-missing"]),
        ("linux-6.8-up.log", ["host-ok"]),
        ("linux-7.3-laptop.log", ["not-a-tdx-host"]),
        ("linux-7.3-up.kmsg", ["host-ok", "field-missing-benign"]),
        ("linux-7.3-vmx-off.log", ["vmx-off"]),
        ("tdxhost-driver.log", ["cpus-differ", "outside-cmrs"]),
        ("tree-5.15-lp-init.log", ["cpus-differ"]),
        ("tree-5.19-vmx.log", ["not-in-vmx"]),
        ("tree-6.2-localised.log", ["cpus-differ", "debug-probe"]),
        ("two-boots.journal", ["host-ok"]),
    ],
)
def test_each_sample_has_its_verdict_first(sample: str, causes: list[str]) -> None:
    text = (SAMPLES / sample).read_text(encoding="utf-8")
    assert _causes(*text.splitlines()) == causes


def test_every_sample_is_in_the_table_of_verdicts() -> None:
    marks = test_each_sample_has_its_verdict_first.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in marks[0].args[1]} == {path.name for path in SAMPLES.iterdir()}


def test_the_bits_of_cpuid_are_told_from_the_registers_of_the_log() -> None:
    text = (SAMPLES / "linux-6.8-cpuid.journal").read_text(encoding="utf-8")
    (finding,) = _diagnose(*text.splitlines()).findings
    told = "CPUID leaf 0x80000008: EAX bits 7:0 PHYSICAL_ADDRESS_BITS has to be 52 (0x34)"
    assert told in finding.says
    assert any("46 bits" in said for said in finding.says)


def test_harmless_lines_are_no_failures() -> None:
    for sample in ("linux-7.3-laptop.log", "linux-6.8-up.log", "linux-7.3-up.kmsg"):
        text = (SAMPLES / sample).read_text(encoding="utf-8")
        assert not _diagnose(*text.splitlines()).failed


KEYIDS = "virt/tdx: BIOS enabled: private KeyID range [32, 64)"
UP = "virt/tdx: module initialized"
OLD = (
    "virt/tdx: TDX module: attributes 0x0, vendor_id 0x8086, major_version 1, minor_version 0, "
    "build_date 20230206, build_num 457"
)
NEW = OLD.replace("minor_version 0", "minor_version 5")
NOT_READY = "virt/tdx: SEAMCALL (0x0000000000000022) failed: 0xc000050500000000"
NO_KEYIDS = "tdx: no TDX private KeyIDs available"
NOT_HOST = "virt/tdx: TDX not supported by the host platform"
HIBERNATION = "virt/tdx: initialization failed: Hibernation support is enabled"
TDP_MMU = "TDX requires TDP MMU.  Please enable TDP MMU for TDX."
CANT_BE_USED = "tdxhost: provider direct, TDX can't be used here"
CMDLINE = "Kernel command line: root=/dev/sda2"
QEMU = "qemu-system-x86_64: -accel kvm: vm-type tdx not supported by KVM"
MSR = "virt/tdx: SEAMCALL (0x0000000000000023) failed: 0xc00009200000010a"


@pytest.mark.parametrize(
    ("lines", "causes"),
    [
        ([KEYIDS, HIBERNATION, NO_KEYIDS], ["hibernation"]),
        ([KEYIDS, HIBERNATION, NOT_HOST], ["hibernation"]),
        ([NO_KEYIDS], ["no-keyids-or-hibernation"]),
        ([f"{CMDLINE} nohibernate", NO_KEYIDS], ["no-keyids"]),
        ([NOT_HOST], ["not-a-tdx-host"]),
        ([KEYIDS, NOT_HOST], ["no-keyids-or-hibernation"]),
        ([KEYIDS], ["not-tried"]),
        ([KEYIDS, OLD, NOT_READY], ["old-module"]),
        ([KEYIDS, NOT_READY], ["old-module"]),
        ([KEYIDS, NEW, NOT_READY], ["seamcall"]),
        ([KEYIDS, UP, TDP_MMU], ["tdp-mmu-after-init", "host-ok"]),
        ([KEYIDS, TDP_MMU], ["kvm-parameters"]),
        ([UP, QEMU], ["host-ok-look-at-qemu"]),
        ([QEMU], ["qemu-mismatch"]),
        ([KEYIDS, HIBERNATION, QEMU], ["hibernation", "qemu-mismatch"]),
        ([MSR, UP], ["host-ok", "cpus-differ"]),
        ([UP, MSR], ["cpus-differ", "host-ok"]),
        ([KEYIDS, "virt/tdx: module initialization failed (-12)"], ["init-failed"]),
        ([KEYIDS, MSR, "virt/tdx: module initialization failed (-5)"], ["cpus-differ"]),
        ([f"{CMDLINE} kvm_intel.tdx=1"], ["no-tdx-lines"]),
        ([CMDLINE], ["nothing"]),
        ([], ["nothing"]),
        (
            ["virt/tdx: SEAMCALL (0x0000000000000045) failed: 0xc000010000000000"],
            ["no-disable-leaf"],
        ),
        (["SEAMCALL (0x24) failed: 0xc000050500000000"], ["package-offline"]),
        (["SEAMCALL (0x21) failed: 0xc000050000000000"], ["configured-before"]),
        (["SEAMCALL (0x8000000000000001) failed: 0x8000000000020001"], ["seamcall"]),
        (["virt/tdx: module not loaded"], ["module-not-loaded"]),
        (["tdx: TDX module is not loaded."], ["module-not-loaded"]),
        ([KEYIDS, "x86/cpu: VMX (outside TXT) disabled by BIOS"], ["vmx-off"]),
        ([KEYIDS, "virt/tdx: Module version: 1.0.03", NOT_READY], ["old-module"]),
        (
            [
                "tdxhost: enabling failed on CPU 0 and 3 more: TDH.SYS.INIT: "
                "no TDX module is loaded (-19)"
            ],
            ["module-not-loaded"],
        ),
        (
            [
                "tdxhost: enabling failed on CPU 0: TDH.SYS.INIT: "
                "the SEAM range is not enabled, trap 13 (-95)"
            ],
            ["seam-off"],
        ),
        (
            [f"{CANT_BE_USED}: firmware set no private KeyIDs aside"],
            ["no-keyids"],
        ),
        (
            [f"{CANT_BE_USED}: firmware has locked VMX off"],
            ["vmx-off"],
        ),
        (
            ["tdxhost: TDMR layout failed: a TDMR needs too many reserved areas (-28)"],
            ["too-many-holes"],
        ),
        (["tdxhost: PAMT allocation failed: out of memory (-12)"], ["pamt-memory"]),
        (["tdxhost: memory failed: System RAM outside every CMR (-34)"], ["outside-cmrs"]),
        (
            ["tdxhost: provider direct is refused: the kernel owns TDX on this host"],
            ["own-driver"],
        ),
        (["kvm: disabled by bios"], ["vmx-off"]),
        (["kvm_intel: VMX (outside TXT) disabled by BIOS"], ["vmx-off"]),
        (["virt/tdx: initialization failed: TDMRs exhausted."], ["tdmrs-exhausted"]),
        (["kvm_intel: MOVDIR64B is required for TDX"], ["cpu-feature"]),
        (["tdx: tdx requires kvm.enable_virt_at_load=1"], ["kvm-parameters"]),
        (
            ["mce: [Hardware Error]: TDX private memory error. Possible kernel bug."],
            ["private-memory-mce"],
        ),
        (["# CONFIG_INTEL_TDX_HOST is not set"], ["kernel-without-tdx"]),
        (["SGX_AND_MCHECK_STATUS: c0de (expected value: 0)"], ["mcheck"]),
        (["Production platform: Pre-production (expected value: Production)"], ["not-production"]),
    ],
)
def test_lines_are_judged_together(lines: list[str], causes: list[str]) -> None:
    assert _causes(*lines) == causes


def test_a_failure_before_success_is_only_context() -> None:
    findings = _diagnose(MSR, UP).findings
    assert [finding.kind for finding in findings] == [Kind.CONTEXT, Kind.CONTEXT]


def test_a_misleading_line_is_told_with_its_reason() -> None:
    (finding,) = _diagnose(KEYIDS, HIBERNATION, NO_KEYIDS).findings
    assert any("no TDX private KeyIDs" in said for said in finding.says)
    assert [line.number for line in finding.lines] == [2, 3]


def test_the_command_line_that_hides_cpus_is_named() -> None:
    text = (SAMPLES / "linux-6.8-nosmt.syslog").read_text(encoding="utf-8")
    (finding,) = _diagnose(*text.splitlines()).findings
    assert any("nosmt" in said for said in finding.says)


@pytest.mark.parametrize(
    ("release", "told"),
    [("7.3.4-tdx", "by itself at boot"), ("6.17.0-20", "kvm_intel does it"), ("6.12.1", "nobody")],
)
def test_who_should_have_tried_is_told_by_the_kernel_release(release: str, told: str) -> None:
    (finding,) = _diagnose(f"Linux version {release} (builder@example)", KEYIDS).findings
    assert finding.cause == "not-tried"
    assert any(release in said and told in said for said in finding.says)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("virt/tdx: Module version: 1.5.16", "TDX module 1.5.16"),
        ("virt/tdx: TDX module version: 1.5.24", "TDX module 1.5.24"),
        ("tdxhost: TDX module 1.5.05, build 744", "TDX module 1.5.05, build 744"),
        (f"{OLD}", "TDX module 1.0, build 457 of 20230206"),
        (f"{NEW}".replace("attributes", "atributes"), "TDX module 1.5, build 457 of 20230206"),
    ],
)
def test_the_version_is_read_in_every_wording(line: str, said: str) -> None:
    finding = _diagnose(line, UP).verdict
    assert (finding.cause, finding.says) == ("host-ok", (said,))


def test_the_same_failure_on_many_cpus_is_one_finding() -> None:
    lines = [
        f"SEAMCALL[TDH_SYS_LP_INIT] failed on cpu {cpu}: TDX_SYS_BUSY (0x8000020200000000)"
        for cpu in range(12)
    ]
    (finding,) = _diagnose(*lines).findings
    assert any("on CPUs 0, 1, 2, 3, 4, 5, 6, 7 and 4 more" in said for said in finding.says)


@UNHURRIED
@given(st.lists(st.text(), max_size=6))
def test_any_text_is_diagnosed(lines: list[str]) -> None:
    assert _diagnose(*lines).findings


@UNHURRIED
@given(
    st.lists(
        st.sampled_from(
            (KEYIDS, UP, OLD, NEW, NOT_READY, NO_KEYIDS, NOT_HOST, HIBERNATION, TDP_MMU, QEMU, MSR)
        ),
        max_size=8,
    )
)
def test_any_order_of_known_lines_is_diagnosed(lines: list[str]) -> None:
    diagnosis = _diagnose(*lines)
    assert diagnosis.verdict is diagnosis.findings[0]
    assert diagnosis.failed == (diagnosis.verdict.kind is Kind.FAILURE)


def test_every_cause_that_lines_and_rules_give_has_its_texts() -> None:
    causes = DIAGNOSER.decoder.advice["causes"]
    for cause, row in causes.items():
        assert row["kind"] in set(Kind), cause
        assert row["title"].endswith("."), cause
    assert set(DIAGNOSER.decoder.advice["statuses"].values()) <= causes.keys()


def test_a_log_that_ends_before_the_outcome_says_that() -> None:
    lines = (
        "virt/tdx: BIOS enabled: private KeyID range [32, 64)",
        "virt/tdx: TDX module: attributes 0x0, vendor_id 0x8086, major_version 1, "
        "minor_version 5, build_date 20240407, build_num 744",
        "virt/tdx: CMR: [0x100000, 0x77800000)",
    )
    verdict = Diagnoser().diagnose(lines).verdict
    assert (verdict.cause, verdict.kind) == ("cut-off", Kind.CONTEXT)
    assert verdict.says == ("TDX module 1.5, build 744 of 20240407",)
