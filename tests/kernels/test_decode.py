# SPDX-License-Identifier: GPL-2.0-or-later
"""What an unmodified Linux logs of a broken platform is decoded to the platform's fault."""

from __future__ import annotations

import json

import pytest

from tests.kernels.conftest import Boot

KERNEL = "7.3-tdx"
DIFFERS = "TDH.SYS.LP.INIT cpu=1 status=0xc00009200000010a"


@pytest.mark.parametrize(
    ("name", "options", "cause"),
    [
        ("spr-2s", {"faults": (DIFFERS,)}, "cpus-differ"),
        pytest.param("spr-2s", {}, "host-ok", marks=pytest.mark.slow),
        pytest.param("one-keyid", {}, "no-keyids", marks=pytest.mark.slow),
        pytest.param("tdx-off", {}, "not-a-tdx-host", marks=pytest.mark.slow),
        pytest.param("module-absent", {}, "module-not-loaded", marks=pytest.mark.slow),
        pytest.param("vmx-locked-off", {}, "vmx-off", marks=pytest.mark.slow),
        pytest.param("spr-2s", {"append": "maxcpus=2"}, "cpus-missing", marks=pytest.mark.slow),
    ],
)
def test_the_log_of_a_boot_is_decoded_to_its_cause(
    boot: Boot, name: str, options: dict[str, object], cause: str
) -> None:
    with boot(KERNEL, name, driver=False, **options) as host:
        run = host.run("tdxhost", "--format", "json", "decode", "--dmesg")
    document = json.loads(run.stdout)
    assert document["verdict"]["cause"] == cause
    assert run.status == int(document["failed"])
