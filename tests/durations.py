# SPDX-License-Identifier: GPL-2.0-or-later
"""How long files of tests take, of those that take a minute or nearly: they go first.

xdist gives a worker a file at a time, and by itself begins with those of most tests. That left
files of few and long ones for the end, when a worker with nothing to do can't take half of one.
"""

#: Seconds of one of three workers on two cores, slow tests included (scripts/test --all
#: --durations=0). They need not be exact: what counts is the order.
SECONDS = {
    "kernels/test_dkms.py": 2000,
    "vm/test_fleet.py": 1500,
    "vm/test_golden.py": 1000,
    "vm/test_standard.py": 800,
    "vm/test_validation_reboots.py": 400,
    "vm/test_machine.py": 380,
    "vm/matrix/test_matrix.py": 360,
    "vm/test_kexec.py": 350,
    "vm/test_hotplug.py": 330,
    "vm/test_races.py": 330,
    "kernels/test_provider_kernel.py": 270,
    "vm/test_enable.py": 260,
    "vm/test_install.py": 230,
    "vm/test_pairs_cpus.py": 220,
    "vm/test_failures.py": 210,
    "vm/test_broken_platforms.py": 200,
    "vm/test_instructions.py": 180,
    "vm/test_trace.py": 180,
    "vm/test_kvm.py": 180,
    "kernels/test_kvm.py": 180,
    "vm/test_layout.py": 170,
    "vm/test_reload.py": 150,
    "kernels/test_builds.py": 150,
    "vm/test_validation_resume.py": 150,
    "vm/test_pairs_memory.py": 150,
    "vm/test_allocations.py": 140,
    "vm/test_slow.py": 130,
    "vm/test_report.py": 130,
    "vm/test_retry_cli.py": 110,
    "vm/test_memory.py": 110,
    "kernels/test_bring_up.py": 110,
    "vm/test_snapshot.py": 90,
    "vm/test_bad_input.py": 90,
    "seam/test_model_sequences.py": 90,
    "vm/test_power.py": 80,
    "vm/test_pairs_machine.py": 80,
    "kernels/test_observer.py": 70,
    "vm/test_smoke.py": 60,
    "vm/test_memory_hotplug.py": 60,
    "vm/test_control.py": 60,
    "vm/test_doctor.py": 60,
    "vm/test_session.py": 50,
    "vm/test_watch.py": 50,
    "vm/test_lockdown.py": 50,
    "vm/test_cpus.py": 50,
}
