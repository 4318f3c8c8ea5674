# SPDX-License-Identifier: GPL-2.0-or-later
"""What the TDX module says of itself: the same on every CPU, and what the driver passes on."""

from collections.abc import Callable, Iterator

from tdxhost.device import Driver
from tdxhost.fields import FieldTable
from tdxhost.findings import Judge
from tdxhost.records import CpuState, Info
from tdxhost.topology import format_cpu_list, pinned
from tdxhost.validation import Stage, could_not_run, requirement
from tdxhost.validation.metadata import Answers, Metadata, answers, differing, element_names
from tdxhost.validation.problems import none_of

INTEL = 0x8086
#: What GET_INFO calls fields; 0 stands for one that the TDX module does not have.
PASSED_ON = {
    "module_major": "MAJOR_VERSION",
    "module_minor": "MINOR_VERSION",
    "module_update": "UPDATE_VERSION",
    "module_build_date": "BUILD_DATE",
    "module_build_num": "BUILD_NUM",
    "tdx_features0": "TDX_FEATURES0",
}
#: Least and most that makes sense. Packages, CMRs, TDMRs: as many as the TDX module has room for
#: (TDX module source 1.5.01); PAMT entries: a few words for a page.
PLAUSIBLE = {
    "NUM_PKGS": (1, 8),
    "NUM_CMRS": (1, 32),
    "MAX_TDMRS": (1, 1024),
    "MAX_RESERVED_PER_TDMR": (1, 1024),
    "PAMT_4K_ENTRY_SIZE": (1, 256),
    "PAMT_2M_ENTRY_SIZE": (1, 256),
    "PAMT_1G_ENTRY_SIZE": (1, 256),
    "VENDOR_ID": (INTEL, INTEL),
    "MAJOR_VERSION": (1, 0xFF),
    "BUILD_DATE": (20200101, 20991231),
    "NUM_TDX_FEATURES": (1, 16),
}
FIRMWARE = "The TDX module is one for all CPUs: update it and the BIOS, and see 'tdxhost doctor'."
DRIVER = "GET_INFO passes on what the TDX module says: report it with 'tdxhost report'."


@requirement(
    "metadata.every-cpu",
    holds="every CPU reads the same value, or the same refusal, for every metadata field",
    source="TDX module ABI spec, TDH.SYS.RD: SYS fields are the TDX module's, not a CPU's",
    needs=(Stage.ALL_CPUS, Stage.INITIALIZED),
)
def test_every_cpu(
    *,
    driver: Driver,
    cpus: tuple[int, ...],
    fields: FieldTable,
    judge: Judge,
    progress: Callable[[str], None],
) -> None:
    """Reads every field pinned to each CPU, and compares."""
    enabled = {one.cpu for one in driver.get_cpus() if one.state is CpuState.ENABLED}
    asked = [cpu for cpu in cpus if cpu in enabled]
    if not asked:
        could_not_run("none of the CPUs that this process may run on is enabled")
    by_cpu: dict[int, Answers] = {}
    for cpu in asked:
        with pinned(cpu):
            by_cpu[cpu] = answers(driver.sys_rd(fields.all_ids()))
    progress(f"read {len(fields.all_ids())} fields on CPUs {format_cpu_list(asked)}")

    if not any(error == 0 for _, _, error, _ in by_cpu[asked[0]]):
        why = f"CPU {asked[0]} could read no field at all"
        none_of([why], "The driver's log and 'tdxhost status' say why.")
    none_of(differing(by_cpu, element_names(fields), judge.reference.name_of), FIRMWARE)


@requirement(
    "metadata.info",
    holds="GET_INFO tells version, build and features as the fields do, and all is plausible",
    source="uapi/linux/tdxhost.h, GET_INFO; TDX module ABI spec, global metadata fields",
    needs=Stage.INITIALIZED,
)
def test_info(driver: Driver, fields: FieldTable) -> None:
    """Compares GET_INFO with the fields, and looks whether values can be."""
    info = driver.get_info()
    metadata = Metadata.read(driver, fields)
    none_of(_passed_on(info, metadata), DRIVER)
    none_of(_implausible(info, metadata), FIRMWARE)


def _passed_on(info: Info, metadata: Metadata) -> Iterator[str]:
    if not info.has_module:
        yield "GET_INFO tells nothing of the TDX module, although it is initialised"
        return
    for member, name in PASSED_ON.items():
        told, wanted = getattr(info, member), metadata.get(name) or 0
        if told != wanted:
            yield f"GET_INFO has {member} {told} ({told:#x}), and {name} is {wanted} ({wanted:#x})"


def _implausible(info: Info, metadata: Metadata) -> Iterator[str]:
    for name, (least, most) in PLAUSIBLE.items():
        value = metadata.get(name)
        if value is not None and not least <= value <= most:
            yield f"{name} is {value} ({value:#x}); {least} to {most} would be plausible"
    packages = metadata.get("NUM_PKGS")
    if packages is not None and packages < info.nr_packages:
        yield f"NUM_PKGS is {packages}, and Linux has CPUs of {info.nr_packages} packages"
