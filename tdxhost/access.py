# SPDX-License-Identifier: GPL-2.0-or-later
"""What can keep the driver from being loaded or opened: privileges, signatures, lockdown."""

from tdxhost.errors import NotRead
from tdxhost.host import Host

#: Number of CAP_SYS_ADMIN (include/uapi/linux/capability.h).
CAP_SYS_ADMIN = 21

LOCKDOWN = "/sys/kernel/security/lockdown"
SIGNED_ONLY = "/sys/module/module/parameters/sig_enforce"
COMMAND_LINE = "/proc/cmdline"
OWN_STATUS = "/proc/self/status"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#: Before an EFI variable's value there are its attributes, 32 bits (efivarfs).
EFI_VALUE_AT = 4

#: Certificates of the keys that DKMS signs with: Debian's, Ubuntu's.
CERTIFICATES = ("/var/lib/dkms/mok.pub", "/var/lib/shim-signed/mok/MOK.der")


class Access:
    """What this kernel allows whom, as far as it shows.

    ``lockdown`` is none, integrity or confidentiality, empty where it can't be read. The
    others are false where they can't.
    """

    def __init__(
        self,
        *,
        lockdown: str = "",
        lockdown_asked_for: bool = False,
        secure_boot: bool = False,
        signed_only: bool = False,
        administrator: bool = False,
        certificate: str = CERTIFICATES[0],
    ) -> None:
        self.lockdown = lockdown
        self.lockdown_asked_for = lockdown_asked_for
        self.secure_boot = secure_boot
        self.signed_only = signed_only
        self.administrator = administrator
        self.certificate = certificate

    @classmethod
    def read(cls, host: Host) -> "Access":
        """Reads it from a host's files."""
        certificates = [path for path in CERTIFICATES if host.has(path)]
        return cls(
            lockdown=_chosen(host.text_or(LOCKDOWN)),
            lockdown_asked_for="lockdown=" in host.text_or(COMMAND_LINE),
            secure_boot=_bytes(host, SECURE_BOOT)[EFI_VALUE_AT:] == b"\x01",
            signed_only=host.text_or(SIGNED_ONLY) == "Y",
            administrator=_has_sys_admin(host.text_or(OWN_STATUS)),
            certificate=(*certificates, CERTIFICATES[0])[0],
        )

    @property
    def locked_down(self) -> bool:
        """Whether kernel lockdown is on, which closes the driver's device to everyone."""
        return self.lockdown not in ("", "none")

    @property
    def in_the_way(self) -> str:
        """Says what keeps a driver that DKMS built out, and what to do; empty if nothing does."""
        if self.locked_down:
            return (
                f"Kernel lockdown ({self.lockdown}) is on: it takes no driver without a signature "
                f"that it trusts, and closes /dev/tdxhost whatever the signature. {self.way_out}"
            )
        if self.signed_only:
            return (
                "This kernel takes only modules with a signature that it trusts. Enrol the key "
                f"that DKMS signs with: 'sudo mokutil --import {self.certificate}', reboot, and "
                "choose Enroll MOK."
            )
        return ""

    @property
    def way_out(self) -> str:
        """Says how kernel lockdown ends."""
        if self.secure_boot:
            return (
                "It follows Secure Boot: switch that off in the firmware's setup, or for Linux "
                "alone with 'sudo mokutil --disable-validation', and reboot."
            )
        if self.lockdown_asked_for:
            return "The kernel's command line asks for it: take lockdown= away, and reboot."
        return (
            "Neither Secure Boot nor the kernel's command line asks for it: it was raised since "
            "boot, and ends with a reboot, or it is built into the kernel."
        )


def _chosen(text: str) -> str:
    """The word in brackets: none [integrity] confidentiality."""
    return text.partition("[")[2].partition("]")[0]


def _has_sys_admin(status: str) -> bool:
    words = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return any(int(word, 16) >> CAP_SYS_ADMIN & 1 for word in words)


def _bytes(host: Host, path: str) -> bytes:
    try:
        return host.data(path)
    except NotRead:
        return b""
