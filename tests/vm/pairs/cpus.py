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
WAS_DONE = Edit("cpu.c", "		result->flags |= TDXHOST_CPU_WAS_DONE;\n", "")
AGAIN = Edit("cpu.c", "	if (record->enabled) {", "	if (false) {")
RESTLESS = Edit("status.c", "published.generation += news;", "published.generation++;")
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
                "copy_struct_from_user(&any, ops[nr].size, user, size);",
                "copy_struct_from_user(&any, ops[nr].size, user,\n"
                "				    min_t(size_t, size, ops[nr].size));",
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

PAIRS = table(*REFUSALS)
