"""What a stranger's code may do, on Linux: compute, and write in one folder.

Four fences that need no privilege, each put up by the process that goes behind it, for good:

- limits on memory, processor time, open files and the size of a file (setrlimit);
- Landlock: files can be read where Python lives and written in one folder; no other process can be looked into;
- a seccomp filter: no new processes, no signals to others, no sockets, no changing of modes, owners or times of files;
- no capabilities, for a grader that runs as root.

https://docs.kernel.org/userspace-api/landlock.html, https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

# system calls that are refused: number on x86-64, on aarch64 (None: that machine has no such call)
REFUSED = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    "socket": (41, 198), "connect": (42, 203), "io_uring_setup": (425, 425),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "chown": (92, None), "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "truncate": (76, 45),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "bpf": (321, 280), "perf_event_open": (298, 241),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "userfaultfd": (323, 282),
}  # fmt: skip
KILL, TGKILL, PRLIMIT, CLONE, CLONE3 = (62, 129), (234, 131), (302, 261), (56, 220), (435, 435)
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, audit number

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ, WRITE_FILE, EVERYTHING = 0b1101, 0b0010, (1 << 13) - 1  # execute, read file, read folder | write file | ABI 1

SYSTEM = (  # what libraries read: themselves, and what kind of machine this is
    *("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/sys/devices/system/cpu"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/dev/urandom", "/dev/zero"),
)


class SandboxError(RuntimeError):
    """The fences cannot be put up on this machine."""


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _call(what: str, result: int) -> int:
    if result < 0:
        raise SandboxError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def missing() -> str | None:
    """Why this machine cannot fence code in, or None if it can."""
    if sys.platform != "linux":
        return f"the fences are Linux's, and this is {platform.system()}"
    if platform.machine() not in ARCHITECTURES:
        return f"no table of system calls for {platform.machine()}"
    if _libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)) < 1:
        return "this kernel has no Landlock (Linux 5.13 or later, switched on; some containers hide it)"
    return None


def limit(memory: int, seconds: int, file_size: int = 16 << 20) -> None:
    """Bound what this process may use: `memory` in bytes beyond what it holds now."""
    import resource  # which Windows does not have

    held = 0
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, bound in (
        (resource.RLIMIT_AS, held + memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            hard = resource.getrlimit(what)[1]
            bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.setrlimit(what, (bound, bound))
        except (ValueError, OSError):
            if sys.platform == "linux":
                raise


def fence(folder: Path, readable: list[Path]) -> None:
    """Shut this process in: it reads `readable` and the system's files, writes in `folder`, and reaches no other."""
    if reason := missing():
        raise SandboxError(reason)
    _call("no_new_privs", _libc.prctl(38, 1, 0, 0, 0))
    _landlock(folder, readable)
    _drop_capabilities()
    _seccomp()


def _landlock(folder: Path, readable: list[Path]) -> None:
    abi = _libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    files = EVERYTHING | (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0) | (1 << 15 if abi >= 5 else 0)
    attributes = struct.pack("QQQ", files, 0b11 if abi >= 4 else 0, 0b11 if abi >= 6 else 0)  # files, TCP, signals
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = _call("landlock", _libc.syscall(LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)))
    grants = [(Path(path), READ) for path in [*SYSTEM, *readable]]
    grants += [(Path("/dev/null"), READ | WRITE_FILE), (folder, files)]
    for path, access in grants:
        if not path.exists():
            continue
        if not path.is_dir():
            access &= 0b0111  # execute, write, read: what a file has
        where = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", access, where)
        _call("landlock rule", _libc.syscall(LANDLOCK_ADD, rules, 1, rule, ctypes.c_uint32(0)))
        os.close(where)
    _call("landlock", _libc.syscall(LANDLOCK_RESTRICT, rules, ctypes.c_uint32(0)))
    os.close(rules)


def _drop_capabilities() -> None:
    header = struct.pack("Ii", 0x20080522, 0)
    _call("capset", _libc.capset(header, bytes(24)))


def _seccomp() -> None:
    column, architecture = ARCHITECTURES[platform.machine()]
    program = b"".join(_filter(column, architecture))
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _call("seccomp", _libc.prctl(22, 2, header, 0, 0))


def _filter(column: int, architecture: int) -> list[bytes]:
    """The filter as instructions (code, jump if true, jump if false, constant) of classic BPF."""

    def op(code: int, constant: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, constant)

    load, equal, at_least, any_bit, ret = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, unknown, kill = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000  # EPERM, ENOSYS
    number, arch, first = 0, 4, 16  # offsets in seccomp_data; the first argument's low half
    code = [op(load, arch), op(equal, architecture, 1, 0), op(ret, kill), op(load, number)]
    code += [op(at_least, 0x40000000, 0, 1), op(ret, refuse)]  # the x32 calls of x86-64
    for numbers in REFUSED.values():
        if numbers[column] is not None:
            code += [op(equal, numbers[column], 0, 1), op(ret, refuse)]
    code += [op(equal, CLONE3[column], 0, 1), op(ret, unknown)]  # the C library then uses clone, whose flags show
    for numbers, wanted in ((KILL, os.getpid()), (TGKILL, os.getpid()), (PRLIMIT, 0)):
        code += [op(equal, numbers[column], 0, 4), op(load, first), op(equal, wanted, 1, 0), op(ret, refuse)]
        code += [op(ret, allow)]
    code += [op(equal, CLONE[column], 0, 4), op(load, first), op(any_bit, 0x10000, 1, 0), op(ret, refuse)]
    code += [op(ret, allow), op(ret, allow)]  # threads of this process may be made, processes not
    return code
