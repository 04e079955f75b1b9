#!/usr/bin/env python3
"""Fails when the table supports a system call that no guest program calls: coverage.py BOXRUN.

A call counts as covered when the guest programs name it, as SYS_name, by number with a k-constant of its name, or by the
libc function that makes it.
"""
import json
import pathlib
import re
import subprocess
import sys

GUESTS = pathlib.Path(__file__).resolve().parent.parent / "guest"

# The libc function (or the case's own constant) behind a call whose name does not appear as such.
MADE_BY = {
    "newfstatat": "fstatat", "pread64": "pread", "pwrite64": "pwrite", "rt_sigaction": "sigaction", "rt_sigpending": "sigpending",
    "rt_sigprocmask": "sigprocmask", "rt_sigqueueinfo": "sigqueue", "rt_sigreturn": "sigaction", "rt_sigsuspend": "sigsuspend",
    "rt_sigtimedwait": "sigtimedwait", "pselect6": "pselect", "prlimit64": "prlimit", "recvfrom": "recvfrom", "sendto": "sendto",
    "fadvise64": "posix_fadvise", "eventfd2": "eventfd", "signalfd4": "signalfd", "epoll_pwait2": "epoll_pwait2",
    "faccessat2": "syscall(439", "openat2": "syscall(437", "close_range": "kCloseRange", "pidfd_open": "kPidfdOpen",
    "pidfd_send_signal": "kPidfdSendSignal", "pidfd_getfd": "kPidfdGetfd", "fchmodat2": "kFchmodat2", "mknodat": "mkfifo",
    "restart_syscall": "nanosleep", "exit_group": "_exit", "exit": "SYS_exit", "umount2": "umount",
}


def main():
    table = json.loads(subprocess.run([sys.argv[1], "syscalls", "--format", "json"], stdout=subprocess.PIPE, check=True,
                                      timeout=30).stdout)
    source = "".join(path.read_text() for path in sorted(GUESTS.glob("*.cpp")))
    words = set(re.findall(r"\w+", source))
    supported = [row["name"] for row in table["syscalls"] if row["support"] in ("full", "partial")]

    def covered(name):
        other = MADE_BY.get(name)
        return name in words or f"SYS_{name}" in words or (other is not None and other in source)

    missing = [name for name in supported if not covered(name)]
    if missing:
        print("supported by the table, called by no guest program:", " ".join(missing))
        return 1
    print(f"{len(supported)} supported calls, all of them called by guest programs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
