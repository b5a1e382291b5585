"""System calls that this process gives up for good, enforced by the kernel (seccomp(2), filter mode).

A list of what is denied, not of what is allowed: which calls Python, glibc and FFmpeg need differs between their
versions, and one that was forgotten would end a worker in the midst of a rare file. So this closes the known ways out
(network, programs, other processes, the kernel's less tried parts), and every call newer than the list.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence


def _numbers(table: str) -> dict[str, tuple[int | None, int | None]]:
    """Of each call its numbers on x86_64 and aarch64 (Linux's asm/unistd_64.h, asm-generic/unistd.h); - for none."""
    rows = (row.split() for row in table.replace("\n", ",").split(",") if row.strip())
    return {name: (_number(x86_64), _number(aarch64)) for name, x86_64, aarch64 in rows}


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


# Network; what is open already may be read and written. Programs and processes. Other processes. Files, by ways that
# Landlock does not watch: inotify would show the names of others' folders. The kernel.
DENIED = _numbers("""
socket 41 198, socketpair 53 199, connect 42 203, bind 49 200, listen 50 201, accept 43 202, accept4 288 242

execve 59 221, execveat 322 281, fork 57 -, vfork 58 -, memfd_create 319 279, memfd_secret 447 447, uselib 134 -
setns 308 268, unshare 272 97, chroot 161 51, personality 135 92, acct 163 89

ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, process_madvise 440 440, kcmp 312 272
process_mrelease 448 448, pidfd_open 434 434, pidfd_getfd 438 438, pidfd_send_signal 424 424
rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, setpriority 141 140, ioprio_set 251 30
migrate_pages 256 238, move_pages 279 239, shmget 29 194, shmat 30 196, msgget 68 186, semget 64 190, mq_open 240 180

chmod 90 -, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, chown 92 -, lchown 94 -, fchown 93 55, fchownat 260 54
utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88
setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, setxattrat 463 463
removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16, removexattrat 466 466
inotify_init 253 -, inotify_init1 294 26, fanotify_init 300 262, name_to_handle_at 303 264, open_by_handle_at 304 265
mount 165 40, umount2 166 39, pivot_root 155 41, mount_setattr 442 442, move_mount 429 429, open_tree 428 428
fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, quotactl 179 60, quotactl_fd 443 443

bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, keyctl 250 219, add_key 248 217, request_key 249 218
io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427
kexec_load 246 104, kexec_file_load 320 294, reboot 169 142, swapon 167 224, swapoff 168 225, vhangup 153 58
init_module 175 105, finit_module 313 273, delete_module 176 106, syslog 103 116, modify_ldt 154 -, iopl 172 -
ioperm 173 -, settimeofday 164 170, clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266
sethostname 170 161, setdomainname 171 162
""")
# Allowed where their first argument, a process, is this one or 0.
OWN_PROCESS = _numbers("""
kill 62 129, tkill 200 130, tgkill 234 131, prlimit64 302 261, sched_setaffinity 203 122, sched_setscheduler 144 119
sched_setparam 142 118, sched_setattr 314 274
""")
CLONE = (56, 220)  # for threads alone
CLONE3 = 435  # its flags are in memory, where a filter cannot look: without it glibc takes clone
LAST = 466  # the newest call that was looked at

# linux/audit.h, linux/filter.h, linux/seccomp.h, linux/sched.h
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_LOAD, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; arguments: the lower half first
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_CLONE_THREAD = 0x00010000

Instruction = tuple[int, int, int, int]  # code, instructions to skip if true, if false, operand


def numbers_of(calls: Mapping[str, tuple[int | None, int | None]], column: int) -> list[int]:
    return [number for numbers in calls.values() if (number := numbers[column]) is not None]


def program(machine: str, pid: int) -> list[Instruction]:
    """The filter for a process on a machine, as platform.machine() calls it. Raises KeyError for others than two."""
    column, architecture = _MACHINES[machine]
    refuse, absent = (_RETURN, 0, 0, _ERROR | errno.EPERM), (_RETURN, 0, 0, _ERROR | errno.ENOSYS)
    allow = (_RETURN, 0, 0, _ALLOW)
    made: list[Instruction] = [
        *((_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)),
        *((_LOAD, 0, 0, _NUMBER), (_GREATER, 0, 1, LAST), absent),
        *((_EQUAL, 0, 1, CLONE3), absent),
        *((_EQUAL, 0, 4, CLONE[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT), (_ANY_BIT, 0, 1, _CLONE_THREAD)),
        *(allow, refuse),
    ]
    for number in numbers_of(OWN_PROCESS, column):
        made += [(_EQUAL, 0, 5, number), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
        made += [(_EQUAL, 1, 0, pid), (_EQUAL, 0, 1, 0), allow, refuse]
    for number in numbers_of(DENIED, column):
        made += [(_EQUAL, 0, 1, number), refuse]
    return [*made, allow]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def apply() -> None:
    """To all threads of this process. no_new_privs must be set. Raises OSError where the kernel refuses, and KeyError
    on a machine that is not known."""
    packed = _packed(program(platform.machine(), os.getpid()))
    filter = _Program(len(packed) // 8, packed)
    number = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(number, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(filter))
    if failed > 0:
        raise OSError(errno.ESRCH, f"thread {failed} cannot be confined")
    if failed:
        raise OSError(ctypes.get_errno(), "seccomp")


def _packed(instructions: Sequence[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
