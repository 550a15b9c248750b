"""Which capabilities a container may ask for: those that its machine has itself."""

from __future__ import annotations

# By their bits, up to the last one that Docker 20.10 can name.
NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
)  # fmt: skip


def capabilities_of(status: str) -> list[str]:
    """The capabilities that a process can get whose ``/proc/<id>/status`` this is, by their full names.

    Docker 20.10 gives a container that asks for ALL, or is privileged, what the machine lacks, and fails; Docker 26
    refuses to drop what the machine lacks. Both take a list of what there is.
    """
    line = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
    held = int(line.split()[1], 16)
    return [f"CAP_{name}" for bit, name in enumerate(NAMES) if held >> bit & 1]
