# SPDX-License-Identifier: GPL-2.0-or-later
"""What Linux, which initialises TDX by itself, makes of TDX modules that are too old for it.

Messages are those of Linux 7.3 arch/x86/virt/vmx/tdx/tdx.c.
"""

from __future__ import annotations

import pytest

from tests.kernels.conftest import Boot

KERNEL = "7.3-tdx"

#: TDH.SYS.RD, by number, as the kernel names it.
RD_FAILED = "virt/tdx: SEAMCALL (0x0000000000000022) failed: "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said", "errno"),
    [
        # TDX_SYS_NOT_READY: what hosts with such a module show (field case canonical-331).
        ("module-1.0", f"{RD_FAILED}0xc000050500000000", 5),
        # TDX_METADATA_FIELD_ID_INCORRECT
        ("module-1.5.01", f"{RD_FAILED}0xc0000c0000000000", 5),
        ("module-old", "virt/tdx: frame pointer (RBP) clobber bug present, upgrade TDX module", 22),
    ],
)
def test_linux_refuses_a_module_that_is_too_old(
    boot: Boot, name: str, said: str, errno: int
) -> None:
    with boot(KERNEL, name, driver=False) as host:
        log = host.run("dmesg").stdout
        witness = host.witness()

    assert said in log
    assert f"virt/tdx: TDX-Module initialization failed (-{errno})" in log
    # Each CPU was enabled before: that asks for nothing that such a module lacks.
    assert set(witness.cpus("TDH.SYS.LP.INIT")) == {0, 1, 2, 3}
    assert witness.of("TDH.SYS.CONFIG") == []
