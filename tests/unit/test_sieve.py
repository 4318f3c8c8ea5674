# SPDX-License-Identifier: GPL-2.0-or-later
"""Of what is read, what bears on TDX is kept, and nothing that is private."""

from tdxhost.sieve import sieve, sieve_log


def test_of_a_command_line_what_bears_on_tdx_is_kept() -> None:
    line = b"BOOT_IMAGE=/vmlinuz root=UUID=8f1d ip=10.1.2.3 nohibernate kvm_intel.tdx=1 maxcpus=4\n"
    assert sieve("/proc/cmdline", line) == b"nohibernate kvm_intel.tdx=1 maxcpus=4\n"


def test_of_a_memory_map_devices_are_left_out() -> None:
    lines = b"00001000-0009fbff : System RAM\nfeb00000-feb1ffff : 0000:00:02.0\n"
    assert sieve("/proc/iomem", lines) == b"00001000-0009fbff : System RAM\n"


def test_of_processors_identity_and_features_of_tdx_are_kept() -> None:
    lines = b"processor\t: 0\nmodel\t\t: 143\ncpu MHz\t: 800\nflags\t\t: fpu vmx sse movdir64b\n\n"
    assert sieve("/proc/cpuinfo", lines) == (
        b"processor\t: 0\nmodel\t\t: 143\nflags : movdir64b vmx\n\n"
    )


def test_of_a_kernel_configuration_options_of_tdx_are_kept() -> None:
    lines = b"CONFIG_INTEL_TDX_HOST=y\nCONFIG_KVM=m\n# CONFIG_SECURITY_X is not set\nCONFIG_USB=y\n"
    assert sieve("/boot/config-6.12", lines) == b"CONFIG_INTEL_TDX_HOST=y\nCONFIG_KVM=m\n"


def test_other_files_stay_as_they_are() -> None:
    assert sieve("/sys/class/dmi/id/bios_version", b"\xff1.2\n") == b"\xff1.2\n"


def test_of_a_log_addresses_of_network_cards_are_left_out() -> None:
    lines = ["usb 1-1: new", "virt/tdx: seen at 52:54:00:12:34:56 by root@host.example"]
    assert sieve_log(lines) == ("virt/tdx: seen at (left out) by (left out)",)
