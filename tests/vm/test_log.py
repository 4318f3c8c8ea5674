# SPDX-License-Identifier: GPL-2.0-or-later
"""vtdx's log promises (vtdx/README.md, "The log"): in order, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections import Counter

from tests.vm.caller import program
from tests.vm.hosts import Boot
from tests.vm.witness import Witness

CALLS = 1000


def test_what_the_guest_has_gone_on_from_is_in_the_log_of_a_killed_emulator(boot: Boot) -> None:
    with boot("spr-1s", driver=False, extra=program.extra()) as host:
        program.load(host.machine)
        host.control.mark("calls")
        program.run(host.machine, calls=CALLS, cpus="0-3")
        os.kill(host.machine.process, signal.SIGKILL)
        assert host.machine.is_gone(20)
        witness = Witness.read(host.log)

    times = [event["t_ns"] for event in witness.events]
    assert times == sorted(times)
    reads = witness.case("calls").of("TDH.SYS.RD")
    assert Counter(call.cpu for call in reads) == dict.fromkeys(range(4), CALLS)
