# SPDX-License-Identifier: GPL-2.0-or-later
"""Provider direct on Debian's kernels: TDX comes up, and vtdx's log says the same."""

from __future__ import annotations

from typing import Any

from tests.kernels.conftest import Boot
from tests.kernels.selection import each
from tests.vm.hosts import Host
from vtdx.vm import kernels


def check_against_log(host: Host, document: Any) -> None:
    """What the driver tells of a bring-up, and what vtdx saw of it."""
    witness = host.witness()
    assert document["provider"] == "direct"
    assert document["module"]["status"] == "initialized"
    (first,) = [cpu["cpu"] for cpu in document["cpus"] if cpu["did_global_init"]]
    assert witness.cpus("TDH.SYS.INIT") == {first: 1}
    assert witness.cpus("TDH.SYS.LP.INIT") == {cpu["cpu"]: 1 for cpu in document["cpus"]}
    assert len(witness.succeeded("TDH.SYS.KEY.CONFIG")) == 2
    tdmrs = witness.tdmrs()
    assert all(witness.initialized_to(tdmr) == tdmr.base + tdmr.size for tdmr in tdmrs)
    told = host.json("memory")["tdmrs"]
    assert [(int(tdmr["base_pa"], 16), tdmr["bytes"]) for tdmr in told] == [
        (tdmr.base, tdmr.size) for tdmr in tdmrs
    ]


@each(["6.1", "6.12", "6.12-rt", "7.2", "7.3"], always=["6.1", "7.3"])
def test_tdx_comes_up(boot: Boot, kernel: str) -> None:
    with boot(kernel) as host:
        release = host.run("uname", "-r").stdout.strip()
        assert release == kernels.find(kernel).release
        check_against_log(host, host.json("enable"))
        # The TDX module holds memory of the driver's from here on.
        assert host.run("rmmod", "tdxhost").status != 0
        assert host.kernel_complaints() == []
