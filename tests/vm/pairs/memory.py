# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory, metadata, hotplug, the log, and what holds for long."""

from __future__ import annotations

from tests.vm.pairs.pair import Pair, table
from vtdx.vm.build import Edit

UP = ("enable.all",)
CPUS = ({"cpus.enable": {"order": "at-once"}},)
#: Fields that the TDX module has: TDH.SYS.RD's answer for one of them, put by a fault.
ONE_VALUE = "status=TDX_SUCCESS r8=0x9"
IF_NOT_ENABLED = "\tif (!tdxhost_cpu_enabled(cpu))\n\t\treturn false;"
OFFLINE = "static int cpu_offline_callback(unsigned int cpu)\n{\n"

MEMORY = (
    Pair(
        why="cmr-a-page-short",
        says="the driver tells the CMRs .*, the TDX module's metadata 0x100000-",
        steps=(*UP, "memory.cmrs"),
        edits=(
            Edit(
                "report.c",
                "metadata->cmrs[i].base, metadata->cmrs[i].size,",
                "metadata->cmrs[i].base, metadata->cmrs[i].size - 4096,",
            ),
        ),
    ),
    Pair(
        why="memory-forgotten",
        says="System RAM in CMRs that is no TDX memory: 0x",
        steps=(*UP, "memory.cmrs"),
        edits=(
            Edit(
                "memory.c",
                "\tmutex_lock(&map_lock);\n\treplace(&map.tdx, &inside);",
                "\tinside.nr--;\n\tmutex_lock(&map_lock);\n\treplace(&map.tdx, &inside);",
            ),
        ),
    ),
    Pair(
        why="memory-reserved-for-nothing",
        says="TDX memory that is reserved although no PAMT is there: 0x100000-0x100fff",
        steps=(*UP, "memory.tdmrs"),
        edits=(
            Edit(
                "tdmr_areas.c",
                "\t\ttdmr->reserved[tdmr->nr_reserved++] = area;",
                "\t\tarea.size += area.base ? 0 : 4096;\n"
                "\t\ttdmr->reserved[tdmr->nr_reserved++] = area;",
            ),
        ),
    ),
    Pair(
        why="reserved-area-left-out",
        says="memory of TDMRs that is in no CMR, and not reserved: 0x0-0xfffff",
        steps=(*UP, "memory.tdmrs"),
        edits=(
            Edit(
                "report.c",
                "for (k = 0; k < map->tdmrs[i].nr_reserved; k++)",
                "for (k = !i; k < map->tdmrs[i].nr_reserved; k++)",
            ),
        ),
    ),
    Pair(
        why="tdmr-a-page-short",
        says="base or size is not a multiple of 1 GiB",
        steps=(*UP, "memory.tdmrs"),
        edits=(
            Edit(
                "report.c",
                "map->tdmrs[i].base, map->tdmrs[i].size,",
                "map->tdmrs[i].base, map->tdmrs[i].size - 4096,",
            ),
        ),
    ),
    Pair(
        why="pamt-a-page-large",
        says="PAMT_4K of TDMR .* has [0-9]+ bytes; [0-9]+ bytes in pages of 4096 with 16 bytes",
        steps=(*UP, "memory.pamts"),
        edits=(
            Edit(
                "tdmr_fit.c",
                "ALIGN(entries * limits->pamt_entry_bytes[level], PAMT_ALIGN);",
                "ALIGN(entries * limits->pamt_entry_bytes[level] + 1, PAMT_ALIGN);",
            ),
        ),
    ),
    Pair(
        why="memory-held-for-no-pamt",
        says="the memory held for PAMTs is not told alike: the PAMTs of GET_MEMORY add up to",
        steps=(*UP, "memory.pamts"),
        edits=(
            Edit(
                "direct_pamts.c",
                "u64 bytes = tdmr_piece_bytes(tdmr, map->nr_tdmrs, &job->memory, limits);",
                "u64 bytes = tdmr_piece_bytes(tdmr, map->nr_tdmrs, &job->memory, limits) + 4096;",
            ),
            Edit("direct_pamts.c", "\t\ttdxhost_pamt_trim(&map->pieces[i]);\n", ""),
        ),
    ),
)

METADATA = (
    Pair(
        why="field-differs-on-a-cpu",
        says=r"is 0x[0-9a-f]+ on CPUs 0-2, 0x9 on CPU 3",
        steps=(*CPUS, "metadata.every-cpu"),
        faults=(f"TDH.SYS.RD cpu=3 call=7 times=1 {ONE_VALUE}",),
    ),
    Pair(
        why="field-refused-on-a-cpu",
        says=r"VENDOR_ID is 0x8086 on CPUs 0,2-3, refused \(TDX_METADATA_FIELD_ID_INCORRECT\) on "
        "CPU 1",
        steps=(*CPUS, "metadata.every-cpu"),
        faults=("TDH.SYS.RD cpu=1 status=TDX_METADATA_FIELD_ID_INCORRECT",),
    ),
    Pair(
        why="version-swapped",
        says=r"GET_INFO has module_major 5 \(0x5\), and MAJOR_VERSION is 1",
        steps=(*UP, "metadata.info"),
        edits=(
            Edit(
                "report.c",
                "info->module_major = map->metadata.major;",
                "info->module_major = map->metadata.minor;",
            ),
        ),
    ),
    Pair(
        why="value-cut",
        says=r"VENDOR_ID is 134 \(0x86\); 32902 to 32902 would be plausible",
        steps=(*UP, "metadata.info"),
        edits=(
            Edit(
                "ioctl.c",
                "field.value = call.out.r8;",
                "field.value = field.id >> 56 == 0x08 ? (u8)call.out.r8 : call.out.r8;",
            ),
        ),
    ),
)

HOTPLUG = (
    Pair(
        why="no-cpu-may-go",
        says="CPU [123] can't be taken offline: Device or resource busy",
        steps=("hotplug.before",),
        edits=(Edit("cpu.c", OFFLINE, f"{OFFLINE}\tif (cpu)\n\t\treturn -EBUSY;\n"),),
    ),
    Pair(
        why="cpu-can't-be-enabled",
        says="CPU [123] can't be enabled any more: TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR",
        steps=("hotplug.before",),
        faults=("TDH.SYS.LP.INIT cpu=1-3 status=TDX_INCONSISTENT_MSR detail=0x10a",),
    ),
    Pair(
        why="forgets-who-goes",
        says="cpus_enabled was 3 while they were offline, not 4",
        steps=(*CPUS, "hotplug.during"),
        edits=(Edit("cpu.c", OFFLINE, f"{OFFLINE}\tcpumask_clear_cpu(cpu, &enabled_cpus);\n"),),
    ),
    Pair(
        why="enables-who-comes",
        says="CPU [123] is not as it was before it went offline: .*state",
        steps=(*UP, "hotplug.after"),
        edits=(Edit("cpu.c", OFFLINE, f"{OFFLINE}\tcpumask_clear_cpu(cpu, &enabled_cpus);\n"),),
    ),
    Pair(
        why="last-of-package-stays",
        says="CPU 3 can't be taken offline: Device or resource busy",
        steps=(*UP, "hotplug.after"),
        edits=(
            Edit("cpu.c", "\tif (!tdxhost_keys_pending() ||", "\tif (tdxhost_keys_pending() ||"),
        ),
    ),
)

POWER = (
    Pair(
        why="suspends",
        says="mem was not refused",
        steps=(*CPUS, "power.refused"),
        edits=(
            Edit(
                "power.c",
                "pm_suspend_target_state == PM_SUSPEND_TO_IDLE ? 0",
                "pm_suspend_target_state != PM_SUSPEND_TO_IDLE ? 0",
            ),
        ),
    ),
    Pair(
        why="hibernates",
        says="disk was not refused",
        steps=(*UP, "power.refused"),
        edits=(
            Edit(
                "power.c",
                "case PM_HIBERNATION_PREPARE:",
                "case PM_HIBERNATION_PREPARE:\n\t\treturn NOTIFY_OK;",
            ),
        ),
    ),
    Pair(
        why="refused-otherwise",
        says="mem is refused with EPERM, not EBUSY",
        steps=(*CPUS, "power.refused"),
        edits=(
            Edit(
                "power.c",
                'pr_warn("%s is refused: TDX is in use, and would be lost\\n", what);\n'
                "\treturn -EBUSY;",
                'pr_warn("%s is refused: TDX is in use, and would be lost\\n", what);\n'
                "\treturn -EPERM;",
            ),
        ),
    ),
)

LOG = (
    Pair(
        why="kernel-warns",
        says="WARNING: CPU: ",
        steps=(*UP, "log.clean"),
        edits=(
            Edit(
                "enable.c",
                'pr_info("TDX module initialized\\n");',
                "WARN_ON(state.attempts);",
            ),
        ),
    ),
    Pair(
        why="driver-errs",
        says=r"\[ *[0-9.]+\] tdxhost: enabling failed on CPU 9: ",
        steps=(*UP, "log.clean"),
        edits=(
            Edit(
                "enable.c",
                'pr_info("TDX module initialized\\n");',
                'pr_err("enabling failed on CPU 9: not really (0)\\n");',
            ),
        ),
    ),
)

SOAK = (
    Pair(
        why="value-changes",
        says=r"CPU 1: [A-Z0-9_]+(\[[0-9]+\])? was .* at first, and is 0x9",
        steps=(*CPUS, {"soak.metadata": {"for": "20s"}}),
        faults=(f"TDH.SYS.RD cpu=1 call=1500 times=1 {ONE_VALUE}",),
    ),
    Pair(
        why="counter-goes-back",
        says="CPU [0-3]: generation went back from [0-9]+ to [0-9]+",
        steps=(*UP, {"soak.readers": {"for": "15s", "readers": 2}}),
        edits=(
            Edit(
                "status.c",
                "\t*status = published;",
                "\t*status = published;\n\tstatus->generation -= ktime_get_ns() >> 10 & 1;",
            ),
        ),
    ),
    Pair(
        why="enables-anew",
        says="ENABLE was asked again, and answered",
        steps=(*UP, {"soak.readers": {"for": "15s", "readers": 1}}),
        edits=(
            Edit(
                "enable.c",
                "\tif (state.module_status == TDXHOST_MODULE_INITIALIZED || waited) {\n"
                "\t\tanswer_last(answer);",
                "\tif (state.module_status == TDXHOST_MODULE_INITIALIZED || waited) {\n"
                "\t\tstatic u32 asked;\n\n"
                "\t\tanswer_refused(answer, ++asked > 3 ? TDXHOST_CODE_FINAL : 0);",
            ),
        ),
    ),
    Pair(
        why="seamcall-again",
        says="CPU [0-3] was enabled, and enabling it again was ",
        steps=(*CPUS, {"soak.cpus": {"for": "20s"}}),
        edits=(
            Edit(
                "cpu.c",
                IF_NOT_ENABLED,
                IF_NOT_ENABLED.replace("cpu))", "cpu) || !(ktime_get_ns() >> 6 & 7))"),
            ),
        ),
    ),
)

PAIRS = table(*MEMORY, *METADATA, *HOTPLUG, *POWER, *LOG, *SOAK)
