# SPDX-License-Identifier: GPL-2.0-or-later
"""How far the TDX module is: it goes one way, and only a reboot leads back."""

from enum import IntEnum

from tdxhost.records import ModuleStatus, Status, Step


class Stage(IntEnum):
    """How far the TDX module is; grows from one reboot to the next."""

    #: No SEAMCALL that changes it was made in this boot.
    UNTOUCHED = 0
    #: TDH.SYS.INIT was called; some online CPUs are not enabled.
    SOME_CPUS = 1
    #: Every online CPU is enabled, and TDH.SYS.CONFIG has not succeeded.
    ALL_CPUS = 2
    #: tdx_enable() has come to its end.
    INITIALIZED = 3
    #: tdx_enable() has failed behind TDH.SYS.CONFIG.
    STUCK = 4

    @property
    def label(self) -> str:
        """What it is called in messages: of the TDX module, or of its CPUs."""
        return LABELS[self]


LABELS = {
    Stage.UNTOUCHED: "untouched",
    Stage.SOME_CPUS: "enabled on some CPUs",
    Stage.ALL_CPUS: "enabled on all CPUs",
    Stage.INITIALIZED: "initialised",
    Stage.STUCK: "stuck behind TDH.SYS.CONFIG",
}

ANY = frozenset(Stage)
BEFORE_CONFIG = frozenset({Stage.UNTOUCHED, Stage.SOME_CPUS, Stage.ALL_CPUS})


def stage_of(status: Status, *, touched: bool = False) -> Stage:
    """The stage that the driver's status means.

    touched: something was called in this boot, although a driver that was loaded since does
    not know.
    """
    if status.module_status is ModuleStatus.INITIALIZED:
        return Stage.INITIALIZED
    if status.module_has_pamts:
        return Stage.STUCK
    if status.cpus_enabled >= status.cpus_online:
        return Stage.ALL_CPUS
    begun = status.cpus_enabled or status.cpus_failed or status.step > Step.CPUS
    return Stage.SOME_CPUS if begun or touched else Stage.UNTOUCHED
