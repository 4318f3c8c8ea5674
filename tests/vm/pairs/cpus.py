# SPDX-License-Identifier: GPL-2.0-or-later
"""Refusals, CPUs, ENABLE, races, the driver: what makes their tests fail."""

from __future__ import annotations

from tests.vm.pairs.pair import Pair, table
from vtdx.vm.build import Edit

AT_ONCE = {"cpus.enable": {"order": "at-once"}}
FORWARDS = {"cpus.enable": {"order": "forwards"}}
BACKWARDS = {"cpus.enable": {"order": "backwards"}}

#: Places of the driver that more than one pair has wrong.
GLOBAL_DONE = "	if (global_done)\n		return 0;\n"
SET_DID_INIT = "attempt->result.flags |= TDXHOST_CPU_DID_GLOBAL_INIT;"
WAS_DONE = Edit("cpu.c", "	result->flags |= TDXHOST_CPU_WAS_DONE;\n", "")
NOT_YET = "	if (!tdxhost_cpu_enabled(cpu))\n		return false;"
AGAIN = Edit("cpu.c", NOT_YET, NOT_YET.replace("!tdxhost_cpu_enabled(cpu)", "true"))
COUNTED = "status->cpus_enabled = cpumask_weight(&enabled_cpus);"
COUNT = "	tdxhost_cpus_count(status);\n"
RESTLESS = Edit("status.c", COUNT, f"{COUNT}	published.generation++;\n")
NOT_ENABLED = "		if (!tdxhost_cpu_enabled(cpu))\n			return tdxhost_step_fail"
WAITERS = "	if (state.module_status == TDXHOST_MODULE_INITIALIZED || waited) {\n"
OWN_CPU = "	if (tdxhost_cpu_enabled(cpu))\n		return cpu;\n"

REFUSALS = (
    Pair(
        why="enable-takes-cpus-unasked",
        says="ENABLE has to fail at step cpus, with CPUs 0-3 not enabled; it ended at step tdmr",
        steps=("refusal.enable-before-cpus",),
        edits=(Edit("steps.c", "	if (flags & TDXHOST_ENABLE_CPUS)", "	if (true)"),),
    ),
    Pair(
        why="enable-names-no-cpu",
        says="it names no CPU, and of the online CPUs CPUs 0-3 are not enabled",
        steps=("refusal.enable-before-cpus",),
        edits=(Edit("steps.c", "CODE_CPU_NOT_ENABLED, cpu)", "CODE_CPU_NOT_ENABLED, ~0U)"),),
    ),
    Pair(
        why="enable-tries-again-unasked",
        says="ENABLE without RETRY after a failure has to answer earlier_failure",
        steps=("refusal.enable-before-cpus",),
        edits=(Edit("enable.c", "ERROR && !(flags & TDXHOST_ENABLE_RETRY)", "ERROR && false"),),
    ),
    Pair(
        why="metadata-asked-on-any-cpu",
        says="CPUs 0-3: SYS_RD was served, and no CPU is enabled",
        steps=("refusal.metadata-before-cpus",),
        edits=(Edit("ioctl.c", OWN_CPU, OWN_CPU.replace("tdxhost_cpu_enabled", "cpu_online")),),
    ),
    Pair(
        why="unknown-flags-taken",
        says="ENABLE with an unknown flag has to be refused with EINVAL: served",
        steps=("refusal.arguments",),
        edits=(
            Edit("ioctl.c", "	if (flags & ~KNOWN_ENABLE_FLAGS)\n		return -EINVAL;\n", ""),
        ),
    ),
    Pair(
        why="unknown-bytes-taken",
        says="GET_STATUS with bytes set that it does not know has to be refused with E2BIG: served",
        steps=("refusal.arguments",),
        edits=(
            Edit(
                "ioctl.c",
                "copy_struct_from_user(any, op->size, user, size);",
                "copy_struct_from_user(any, op->size, user,\n"
                "				    min_t(size_t, size, op->size));",
            ),
        ),
    ),
    Pair(
        why="reserved-fields-taken",
        says="CPUS_ENABLE with a reserved field set has to be refused with EINVAL: served",
        steps=("refusal.arguments",),
        edits=(Edit("ioctl.c", "ret || cpus->flags || cpus->__reserved", "ret || cpus->flags"),),
    ),
    Pair(
        why="others-calls-taken",
        says="a number of nobody's has to be refused with ENOTTY: served",
        steps=("refusal.arguments",),
        edits=(Edit("ioctl.c", " || command != _IO(TDXHOST_IOCTL_TYPE, nr)", ""),),
    ),
    Pair(
        why="open-without-capability",
        says="root without CAP_SYS_ADMIN opens /dev/tdxhost: EPERM is due, and it is served",
        steps=("refusal.privilege",),
        edits=(Edit("ioctl.c", "	if (!capable(CAP_SYS_ADMIN))\n		return -EPERM;\n", ""),),
    ),
    Pair(
        why="open-to-everyone",
        says="a user without rights opens /dev/tdxhost: EACCES or EPERM is due, and it is served",
        steps=("refusal.privilege",),
        edits=(
            Edit("ioctl.c", "	if (!capable(CAP_SYS_ADMIN))\n		return -EPERM;\n", ""),
            Edit("main.c", ".mode = 0600,", ".mode = 0666,"),
        ),
    ),
    Pair(
        why="absent-cpus-passed-over",
        says="CPUS_ENABLE of CPU 8192, of which CPU 8192 can't exist, has to be refused",
        steps=("refusal.absent-cpu",),
        edits=(Edit("ioctl.c", "		else\n			ret = -EINVAL;\n", ""),),
    ),
    Pair(
        why="offline-cpus-told-nothing",
        says=r"CPU 3 is offline: its result has to say so .*, and says offline, none, ENXIO",
        steps=("refusal.absent-cpu",),
        edits=(Edit("ioctl.c", "		result->code = TDXHOST_CODE_CPU_OFFLINE;\n", ""),),
        before="echo 0 > /sys/devices/system/cpu/cpu3/online",
    ),
)

CPUS = (
    Pair(
        why="second-cpu-refused",
        says=r"CPU \d: TDH.SYS.LP.INIT: TDX_INCONSISTENT_MSR .*0x10a",
        steps=("cpus.partial",),
        faults=("TDH.SYS.LP.INIT call=2 status=TDX_INCONSISTENT_MSR detail=0x10a",),
    ),
    Pair(
        why="neighbours-result-changed",
        says="nobody enabled it, and its result changed: retries was 0 and is",
        steps=("cpus.partial",),
        edits=(
            Edit(
                "cpu.c",
                "	record->last = *result;\n",
                "	record->last = *result;\n"
                "	per_cpu(records, result->cpu ^ 1).last.retries++;\n",
            ),
        ),
    ),
    Pair(
        why="enabled-cpus-miscounted",
        says="2 CPUs were enabled, and GET_STATUS counts 4 more",
        steps=("cpus.partial",),
        edits=(Edit("cpu.c", COUNTED, COUNTED.replace("= ", "= 2 * ")),),
    ),
    Pair(
        why="cpu-of-the-rest-without-seam",
        says=r"CPU \d: the SEAM range is not enabled",
        steps=("cpus.partial", "cpus.rest"),
        faults=("TDH.SYS.LP.INIT call=3 times=1 trap=GP",),
    ),
    Pair(
        why="global-init-once-more",
        says="TDH.SYS.INIT succeeded once more, and CPUs .* had been enabled before",
        steps=("cpus.partial", "cpus.rest"),
        edits=(
            Edit(
                "provider_direct.c",
                GLOBAL_DONE,
                "	if (global_done) {\n"
                "		static int later;\n\n"
                f"		if (++later > 1)\n			{SET_DID_INIT}\n"
                "		return 0;\n"
                "	}\n",
            ),
        ),
    ),
    Pair(
        why="cpu-busy-for-ever",
        says="CPU 2: TDH.SYS.LP.INIT: TDX_SYS_BUSY .*still so after 99 repeats",
        steps=(AT_ONCE,),
        faults=("TDH.SYS.LP.INIT cpu=2 status=TDX_SYS_BUSY",),
    ),
    Pair(
        why="outputs-left",
        says="CPU 1: TDH.SYS.LP.INIT succeeded, and has to leave 0 in RCX, R8",
        steps=(FORWARDS,),
        faults=("TDH.SYS.LP.INIT cpu=1 status=TDX_SUCCESS rcx=0x1 r8=0x2",),
    ),
    Pair(
        why="module-used-before",
        says="CPU 3: it was enabled before .TDX_SYS_LP_INIT_DONE.: an earlier kernel or driver",
        steps=(BACKWARDS,),
        faults=("TDH.SYS.LP.INIT cpu=3 status=TDX_SYS_LP_INIT_DONE",),
    ),
    Pair(
        why="begun-out-of-turn",
        says="CPU 1 was begun before CPU 0, whose turn it was, had ended",
        steps=(FORWARDS,),
        edits=(Edit("cpu.c", "{ .start_ns = ktime_get_ns() }", "{ .start_ns = 1 }"),),
    ),
    Pair(
        why="done-not-told",
        says=r"CPUs 0-3: .*enabling it again does not say that \(WAS_DONE\)",
        steps=(AT_ONCE, "cpus.again"),
        edits=(WAS_DONE,),
    ),
    Pair(
        why="done-once-more",
        says="it was enabled again, and seam_status was 0 and is",
        steps=(AT_ONCE, "cpus.again"),
        edits=(AGAIN,),
    ),
    Pair(
        why="apic-ids-not-linuxs",
        says="CPU 3: apic_id is 4 in GET_CPUS, and 3 in /proc and /sys",
        steps=(AT_ONCE, "cpus.sane"),
        edits=(
            Edit(
                "cpu.c",
                "	result->apic_id = per_cpu(x86_cpu_to_apicid, cpu);",
                "	result->apic_id = per_cpu(x86_cpu_to_apicid, cpu) + 1;",
            ),
        ),
    ),
    Pair(
        why="nodes-not-linuxs",
        says="CPUs 2-3: node is 0 in GET_CPUS, and 1 in /proc and /sys",
        steps=(AT_ONCE, "cpus.sane"),
        edits=(Edit("cpu.c", "? TDXHOST_NONE : node;", "? TDXHOST_NONE : 0;"),),
    ),
    Pair(
        why="packages-not-linuxs",
        says="CPUs 2-3: package is 0 in GET_CPUS, and 1 in /proc and /sys",
        steps=(AT_ONCE, "cpus.sane"),
        edits=(Edit("cpu.c", "topology_physical_package_id(cpu);", "0;"),),
    ),
    Pair(
        why="ids-by-turn",
        says=r"CPU 0: apic_id was 4 in boot earlier \(forwards\), and 7 in boot last",
        earlier=(FORWARDS,),
        steps=(BACKWARDS, "cpus.orders-agree"),
        edits=(
            Edit(
                "cpu.c",
                "	result->apic_id = per_cpu(x86_cpu_to_apicid, cpu);",
                "	static u32 turn;\n\n	result->apic_id = turn++;",
            ),
        ),
    ),
)

ENABLE = (
    Pair(
        why="enabled-cpu-named",
        says=r"it names CPU \d, and of the online CPUs CPUs .* are not enabled",
        steps=("cpus.partial", "enable.names-missing"),
        edits=(Edit("steps.c", NOT_ENABLED, NOT_ENABLED.replace("!", "")),),
    ),
    Pair(
        why="memory-kept-after-failure",
        says="GET_STATUS: 4096 B are held for PAMTs, and nothing may be",
        steps=("cpus.partial", "enable.names-missing"),
        edits=(Edit("direct_prepare.c", "tdxhost_status_pamt(0);", "tdxhost_status_pamt(4096);"),),
    ),
    Pair(
        why="configuration-refused",
        says=r"step config, CPU \d: TDH.SYS.CONFIG: TDX_PAMT_OVERLAP",
        steps=("enable.all",),
        faults=("TDH.SYS.CONFIG status=TDX_PAMT_OVERLAP",),
    ),
    Pair(
        why="package-without-key",
        says="step key_config.*: TDH.SYS.KEY.CONFIG: TDX_KEY_GENERATION_FAILED",
        steps=("enable.all",),
        faults=("TDH.SYS.KEY.CONFIG cpu=2-3 status=TDX_KEY_GENERATION_FAILED",),
    ),
    Pair(
        why="said-to-be-running",
        says="GET_STATUS: running has to be 0 now, and is 1",
        steps=("enable.all",),
        edits=(Edit("status.c", "	published.running = 0;\n", ""),),
    ),
    Pair(
        why="second-enable-goes-in",
        says="ENABLE: GET_STATUS: generation was",
        steps=("enable.all", "enable.twice"),
        edits=(Edit("enable.c", WAITERS, "	if (waited) {\n"),),
    ),
    Pair(
        why="seamcalls-not-counted",
        says="step config has to end with TDH.SYS.CONFIG, and .* after 0 SEAMCALLs",
        steps=("enable.all", "enable.steps"),
        edits=(Edit("enable.c", "	result->seamcalls += call->calls;\n", ""),),
    ),
    Pair(
        why="steps-take-no-time",
        says="step memory took no time at all",
        steps=("enable.all", "enable.steps"),
        edits=(
            Edit(
                "enable.c", "duration_ns = ktime_get_ns() - result->start_ns;", "duration_ns = 0;"
            ),
        ),
    ),
    Pair(
        why="progress-not-told",
        says=r"GET_STATUS: 0 of \d+ GiB of TDMRs are initialised",
        steps=("enable.all", "enable.steps"),
        edits=(Edit("direct_tdmrs.c", "	job->gib_done += gib;\n", ""),),
    ),
)

RACES = (
    Pair(
        why="cpu-busy-in-a-race",
        says="CPU 3: TDH.SYS.LP.INIT: TDX_SYS_BUSY",
        steps=("race.cpus",),
        faults=("TDH.SYS.LP.INIT cpu=3 status=TDX_SYS_BUSY",),
    ),
    Pair(
        why="every-cpu-did-global-init",
        says="one CPU does the global initialisation .TDH.SYS.INIT., and here CPUs 0-3 did",
        steps=("race.cpus",),
        edits=(
            Edit(
                "provider_direct.c",
                GLOBAL_DONE,
                f"	if (global_done) {{\n		{SET_DID_INIT}\n		return 0;\n	}}\n",
            ),
        ),
    ),
    Pair(
        why="every-caller-did-it",
        says="one caller has to have enabled it, and 4 were told that they did",
        steps=("race.cpus",),
        edits=(WAS_DONE,),
    ),
    Pair(
        why="waiters-told-of-a-failure",
        says="callers of ENABLE were told different things: .*earlier_failure",
        steps=("race.enable",),
        edits=(
            Edit(
                "enable.c",
                WAITERS + "		answer_last(answer);",
                WAITERS + "		answer_refused(answer, TDXHOST_CODE_EARLIER_FAILURE);",
            ),
        ),
    ),
    Pair(
        why="race-for-a-module-that-refuses",
        says=r"step config, CPU \d: TDH.SYS.CONFIG: TDX_PAMT_OVERLAP",
        steps=("race.enable",),
        faults=("TDH.SYS.CONFIG times=1 status=TDX_PAMT_OVERLAP",),
    ),
    Pair(
        why="metadata-once-different",
        says="SYS_RD was answered in different ways, and nothing had changed",
        steps=(AT_ONCE, "race.readers"),
        faults=("TDH.SYS.RD call=100 times=1 status=TDX_METADATA_FIELD_ID_INCORRECT",),
    ),
    Pair(
        why="state-changes-by-itself",
        says="GET_STATUS was answered in different ways, and nothing had changed",
        steps=(AT_ONCE, "race.readers"),
        edits=(RESTLESS,),
    ),
    Pair(
        why="metadata-of-the-first-cpu",
        says="SYS_RD was served by CPU 0, and the caller's is enabled",
        steps=(AT_ONCE, "race.readers"),
        edits=(Edit("ioctl.c", OWN_CPU, ""),),
    ),
)

DRIVER = (
    Pair(
        why="module-forgets-its-cpus",
        says="enabled before the driver was loaded again, and WAS_DONE is not set",
        steps=("cpus.partial", {"driver.reload": {"file": "/opt/drivers/right.ko"}}),
        faults=("TDH.SYS.LP.INIT call=3 status=TDX_SUCCESS",),
    ),
    Pair(
        why="cpus-done-before-refused",
        says="loaded again, and TDH.SYS.LP.INIT: TDX_SYS_LP_INIT_DONE",
        steps=(
            "cpus.partial",
            {"driver.reload": {"file": "/opt/drivers/cpus-done-before-refused.ko"}},
        ),
        edits=(
            Edit(
                "provider_direct.c",
                "if (tdxhost_status_code(call->status) != TDX_SYS_LP_INIT_DONE)",
                "if (call->code || true)",
            ),
        ),
    ),
    Pair(
        why="driver-may-go",
        says="nothing keeps the driver: its reference count is 0",
        steps=("enable.all", "driver.stays"),
        edits=(Edit("enable.c", "	__module_get(THIS_MODULE);\n", ""),),
    ),
    Pair(
        why="sysfs-is-stale",
        says="/sys/class/misc/tdxhost/status has to be initialized, and is unknown",
        steps=("enable.all", "driver.sysfs"),
        edits=(
            Edit(
                "status.c",
                'sysfs_emit(buf, "%s\\n", status_names[now.module_status]);',
                'sysfs_emit(buf, "%s\\n", status_names[0]);',
            ),
        ),
    ),
    Pair(
        why="sysfs-for-root-alone",
        says="status has to be readable by all and writable by nobody, and is 600",
        steps=("driver.sysfs",),
        before="chmod 0600 /sys/class/misc/tdxhost/status",
    ),
    Pair(
        why="no-event",
        says="CPU 0 was enabled, and 0 events came within 10 s",
        steps=("driver.uevents",),
        edits=(Edit("status.c", "	if (news)\n		uevent();\n", ""),),
    ),
    Pair(
        why="events-of-no-news",
        says="CPU 0 was enabled again, which does nothing, and 1 events came",
        steps=("driver.uevents",),
        edits=(Edit("status.c", "	WRITE_ONCE(told_changes, changes);\n", ""),),
    ),
    Pair(
        why="trace-names-another-leaf",
        says="is in the trace, and nobody has asked for anything but TDH.SYS.RD",
        steps=(AT_ONCE, "driver.trace"),
        edits=(Edit("trace.h", "__entry->leaf = call->leaf;", "__entry->leaf = call->leaf + 1;"),),
    ),
    Pair(
        why="trace-has-holes",
        says="64 of 64 fields that were read are not in the trace",
        steps=(AT_ONCE, "driver.trace"),
        edits=(
            Edit(
                "seamcall.c",
                "	trace_seamcall(call, took);",
                "	if (call->leaf != TDH_SYS_RD)\n		trace_seamcall(call, took);",
            ),
        ),
    ),
    Pair(
        why="trace-has-the-inputs-twice",
        says="R8 is 0x0 in the trace, and 0x",
        steps=(AT_ONCE, "driver.trace"),
        edits=(Edit("trace.h", "__entry->out, &call->out,", "__entry->out, &call->in,"),),
    ),
    Pair(
        why="traced-once-more",
        says="TDH.SYS.LP.INIT is in the trace, and nobody has asked",
        steps=(AT_ONCE, "driver.trace"),
        edits=(AGAIN,),
    ),
)

PAIRS = table(*REFUSALS, *CPUS, *ENABLE, *RACES, *DRIVER)
