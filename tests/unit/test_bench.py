# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/bench makes of measurements, and what it says to wrong words."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.__main__ import main
from tests.bench.bring_up import CpusAtOnce, Upstream
from tests.bench.calls import HostSweep, numbers_of
from tests.bench.machines import Size, Xeon, scale_for
from tests.bench.result import Check, Picture, Section, markdown, told
from tests.bench.scale import FEW_CPUS, GIB, SCALE, SIZES, Initialised, Line, Scale, forecast
from tests.bench.sections import SECTIONS
from vtdx.vm import platform
from vtdx.vm.errors import MachineLost

SCRIPT = Path(__file__).parents[2] / "scripts/bench"
#: 3.5 ms for a GiB at SCALE, side by side on FEW_CPUS, and 4 MiB of PAMTs for a GiB.
MEASURED = Scale(
    cpus=((2, 12), (4, 14), (8, 18)),
    gibs=tuple(
        Initialised(gib, 5000 + gib * 3_584_000 * SCALE // FEW_CPUS, gib << 22) for gib in (2, 4, 8)
    ),
)


def bench(*words: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(
        [SCRIPT, *words], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--help"], 0, "usage: scripts/bench"),
        (["tdmrs", "-h"], 0, "usage: scripts/bench"),
        (["tdmr"], 1, "no section tdmr"),
        (["--fast"], 1, "no option --fast"),
        (["--output"], 1, "--output wants a folder"),
    ],
)
def test_words_are_answered_before_anything_is_installed(
    tmp_path: Path, words: list[str], status: int, said: str
) -> None:
    done = bench(*words, cache=tmp_path)
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True)
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_section(tmp_path: Path) -> None:
    told = bench("--help", cache=tmp_path).stdout
    assert [line.split()[0] for line in told.splitlines() if line.startswith("  ")] == list(
        SECTIONS
    )


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(2.0, False, True), (2.01, False, False), (2.0, True, True), (1.99, True, False)],
)
def test_a_goal_is_a_bound(value: float, at_least: bool, met: bool) -> None:
    check = Check("Something", value, 2.0, at_least=at_least)
    assert check.met is met
    assert ("**not met**" in markdown([Section("Part", (check,), None)])) is not met


def section(value: float) -> Section:
    return Section("Part", (Check("Something", value, 2.0),), {"value": value})


def stop() -> Section:
    raise KeyboardInterrupt


def fail() -> Section:
    raise MachineLost("The machine is gone.")


@pytest.mark.parametrize(
    ("last", "status"),
    [(lambda: section(2.0), 0), (lambda: section(2.1), 1), (fail, 2), (stop, 130)],
)
def test_what_was_measured_is_kept_however_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: Callable[[], Section], status: int
) -> None:
    sections = {"first": lambda: section(1.0), "last": last}
    monkeypatch.setattr("tests.bench.__main__.SECTIONS", sections)
    assert main(tmp_path / "bench", []) == status
    kept = json.loads((tmp_path / "bench/bench.json").read_text())
    assert kept["first"]["checks"][0]["value"] == 1.0
    assert ("last" in kept) is (status < 2)


def test_numbers_are_told_without_exponents() -> None:
    assert [told(value) for value in (0.00027, 1.044, 12.8, 312.4, 104857.6)] == [
        "0.00027",
        "1.04",
        "12.8",
        "312",
        "104,858",
    ]


def test_ratios_are_of_what_was_measured() -> None:
    cpus = CpusAtOnce(cpus=32, scale=10, own_ns=1, wall_ns=25_000_000)
    assert (cpus.of_one, cpus.faster) == (1.25, 25.6)
    upstream = Upstream(
        Size(16, 16), 1, direct_ns=100, upstream_ns=1050, cpus_ns=200, kernel_ns=800
    )
    assert (upstream.faster, upstream.added) == (10.5, 0.05)
    assert HostSweep(cpus=2, program_ns=7_000, pin_ns=9_000, python_ns=24_000).added_us == 15


def test_latencies_are_scaled_until_the_emulator_is_a_twentieth() -> None:
    assert scale_for(own_ns=100, modelled_ns=1000) == 2
    assert scale_for(own_ns=101, modelled_ns=1000) == 3
    assert scale_for(own_ns=1, modelled_ns=1000) == 1


def test_a_size_is_told_in_the_unit_that_fits() -> None:
    assert str(Size(16, 16)) == "16 CPUs, 16 GiB"
    assert str(SIZES[-1]) == "2048 CPUs, 64 TiB"


def test_numbers_are_read_by_name() -> None:
    assert numbers_of("pin 12\nsweep 40\n") == {"pin": 12, "sweep": 40}


def test_a_line_is_drawn_through_what_lies_on_one() -> None:
    line = Line.through([(2, 12), (4, 14), (8, 18)])
    assert (line.each, line.base, line.at(100)) == pytest.approx((1, 10, 110))


def test_a_forecast_goes_on_from_what_was_measured() -> None:
    told = forecast(SIZES[-1], MEASURED)
    # 64 TiB in 48 TDMRs; 3.584 ms for a GiB, as modelled: 256 calls of 14 us.
    assert told.largest_tdmr_gib == 1366
    assert told.tdmr_init_ns == pytest.approx(1366 * 3_584_000)
    assert told.pamt_bytes == pytest.approx(64 * 1024 * (1 << 22))
    assert told.pamt_piece_bytes == 1366 * GIB // 256
    assert told.interrupts == 2 * 2048 + 8
    assert told.interrupt_ns == pytest.approx(10 + 2048)
    assert told.limit == "48 TDMRs for 2048 CPUs"


def test_a_small_machine_has_a_tdmr_for_each_cpu() -> None:
    assert forecast(Size(cpus=16, gib=64), MEASURED).limit == "CPUs: each has a TDMR"


def test_a_platform_has_the_size_and_the_latencies(tmp_path: Path) -> None:
    file = tmp_path / "xeon.ini"
    file.write_text(Xeon(Size(8, 64, nodes=2), {"TDH.SYS.TDMR.INIT": 14_000}).text())
    loaded = platform.load(str(file))
    assert (loaded.cpus, loaded.memory_bytes, len(loaded.nodes)) == (8, 64 << 30, 2)
    assert "TDH.SYS.TDMR.INIT = 14000ns" in loaded.text


def test_a_picture_draws_the_longest_bar_across() -> None:
    drawn = Picture("some", "Some <things>", (("a", 1.0), ("b", 4.0))).svg()
    assert "Some &lt;things&gt;" in drawn
    assert 'width="380.0"' in drawn
    assert 'width="95.0"' in drawn
