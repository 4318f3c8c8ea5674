# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left to do with the TDX module after a failure: go on, retry, or nothing but a new load.

Follows struct tdxhost_enable of the uapi header, and the states of the TDX module (TDX module
ABI spec, platform initialisation).
"""

from tdxhost.records import Code, RangeKind, Step
from tdxhost.state import Outcome, State
from tdxhost.status import Decoded

#: What a status says about the state of a TDX module that has accepted TDH.SYS.CONFIG.
STATES = {
    "TDX_OPERAND_INVALID": "the TDX module does not take inputs that can't be changed any more",
    "TDX_SYS_INIT_NOT_PENDING": "the TDX module was initialised before, by an earlier kernel",
    "TDX_SYS_KEY_CONFIG_NOT_PENDING": "the TDX module is not in the state in which it takes keys",
    "TDX_SYS_LP_INIT_NOT_DONE": "TDH.SYS.LP.INIT was not done on the CPU, and now it is too late",
    "TDX_SYS_LP_INIT_NOT_PENDING": "the TDX module was configured before, by an earlier kernel or "
    "driver, and takes no more CPUs",
    "TDX_SYS_NOT_READY": "the TDX module does not count its key as configured on every package",
    "TDX_SYS_SHUTDOWN": "the TDX module was shut down, and takes no more work",
}
ANY_STATE = "the TDX module can't go on from where it is"

#: Statuses that no retry changes, at whatever step: the TDX module is past that point.
SPENT = frozenset({"TDX_SYS_SHUTDOWN", "TDX_SYS_INIT_NOT_PENDING", "TDX_SYS_LP_INIT_NOT_PENDING"})

NEW_LOAD = "a reboot, or another TDX module (loaded by P-SEAMLDR, or by a firmware update)"


def remedies(state: State, outcome: Outcome, decoded: Decoded) -> tuple[str, ...]:
    """Says what is left after an attempt that did not come to its end; decoded is its status."""
    if outcome.code is Code.INTERRUPTED:
        return (go_on(skip_non_cmr=_skipping(state)),)
    if state.is_final:
        left = "a reboot" if outcome.step is Step.KERNEL else NEW_LOAD
        return (f"--retry can't help{_why_final(outcome, decoded)}. What is left: {left}.",)
    if outcome.code is Code.SEAMCALL and decoded.name in SPENT:
        meaning = STATES[decoded.name]
        return (f"{decoded.name} means that {meaning}. What is left: {NEW_LOAD}.",)
    if not state.info.can_retry:
        return ("The loaded driver can't retry. What is left: a reboot.",)
    return _retry(state, outcome)


def _why_final(outcome: Outcome, decoded: Decoded) -> str:
    if outcome.step is Step.KERNEL:
        return ": the kernel initialises the TDX module once a boot"
    if not outcome.seam_status:
        return ""
    meaning = STATES.get(decoded.name, ANY_STATE)
    return f": after TDH.SYS.CONFIG, {decoded.name} means that {meaning}"


def _retry(state: State, outcome: Outcome) -> tuple[str, ...]:
    again = command(retry=True, skip_non_cmr=_skipping(state))
    way = f"Once the cause is gone, go on at step {outcome.step.label}: {again}"
    if outcome.code is Code.RAM_OUTSIDE_CMR and _rest_is_usable(state):
        return way, f"Or bring TDX up on the rest of memory: {again} --skip-non-cmr"
    return (way,)


def _rest_is_usable(state: State) -> bool:
    memory = state.memory
    outside, ram = memory.bytes_of(RangeKind.OUTSIDE), memory.bytes_of(RangeKind.RAM)
    return state.info.can_skip_non_cmr and outside < ram


def _skipping(state: State) -> bool:
    """Whether the choice that was made for RAM outside CMRs has to be made again."""
    return state.left_out and state.module.step <= Step.CONFIG


def go_on(*, skip_non_cmr: bool) -> str:
    """Says how to go on where nothing has failed."""
    return f"Go on with: {command(retry=False, skip_non_cmr=skip_non_cmr)}"


def command(*, retry: bool, skip_non_cmr: bool) -> str:
    """The command that goes on."""
    words = ["sudo tdxhost enable"]
    words += ["--retry"] if retry else []
    words += ["--skip-non-cmr"] if skip_non_cmr else []
    return " ".join(words)
