"""The program of the rooms: it makes the mount namespaces of environments and starts their processes.

One process, the porter, reads requests for rooms from standard input and forks for each. What is forked, the room's
keeper, enters namespaces of its own, builds Lambda's file system there, and then starts a process for each message that
it gets over its socket; so the processes of an environment share one namespace, which lives as long as its keeper does.
A keeper whose socket ends kills what it started and ends, too.

It is a script of its own, uses only the standard library, is single-threaded, and is started with -I -S: a fork of it
is cheap and safe. The messages are JSON objects, one a packet; file descriptors travel beside them (SCM_RIGHTS).
Source of the system calls: their pages in section 2 of the Linux manual; mount_namespaces(7), user_namespaces(7).
"""

import array
import ctypes
import errno
import fcntl
import json
import os
import platform
import selectors
import signal
import socket
import stat
from collections.abc import Mapping, Sequence
from typing import Any

_PACKET = 256 * 1024

_CLONE_NEWNS, _CLONE_NEWUSER = 0x0002_0000, 0x1000_0000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x4_0000
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_RDONLY = 1
_SYS_MOUNT_SETATTR = 442  # one number on every processor
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

# The calls of seccomp(2) and the steps of its programs (linux/filter.h).
_SET_MODE_FILTER, _NEW_LISTENER, _PR_SET_NO_NEW_PRIVS = 1, 8, 38
_PR_SET_PDEATHSIG = 1
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _NOTIFY = 0x7FFF_0000, 0x7FC0_0000
# By processor: its number for seccomp, and those of seccomp, bind, connect and sendto.
_ABOUT_ADDRESSES = {"x86_64": (0xC000_003E, 317, 49, 42, 44), "aarch64": (0xC000_00B7, 277, 200, 203, 206)}

# What the room has of its own. Everything else is the machine's, and can only be read.
_OWN = ("opt", "tmp", "proc", "var", "lost+found")
_OWN_IN_VAR = ("task", "runtime", "lang", "tmp")

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers leave no zombies
    porter = socket.socket(fileno=os.dup(0))
    while True:
        message, fds = _receive(porter)
        if message is None:
            return
        if os.fork() == 0:
            porter.close()
            _keep(message, socket.socket(fileno=fds[0]))
            os._exit(0)
        os.close(fds[0])


def _keep(spec: Mapping[str, Any], client: socket.socket) -> None:
    """Be the keeper of one room until its socket ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    devnull = os.open(os.devnull, os.O_RDWR)
    os.dup2(devnull, 0)
    try:
        _enter(spec)
    except (OSError, KeyError) as error:
        _send(client, {"error": f"{error}"})
        return
    listener, why_not = _ask_about_addresses() if spec["own_ports"] else (None, "")
    ready = json.dumps({"keeper": os.getpid(), "ports": why_not}).encode()
    socket.send_fds(client, [ready], [] if listener is None else [listener])
    if listener is not None:
        os.close(listener)
    _Keeper(client).serve()


class _Keeper:
    """Starts processes and reports their ends."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._selector = selectors.DefaultSelector()
        self._selector.register(client, selectors.EVENT_READ, None)
        self._children: dict[int, int] = {}  # pid by the pidfd that tells of its end

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._end(key.fd, key.data)
                elif not self._start():
                    for pid in self._children.values():
                        _kill_group(pid)
                    return

    def _start(self) -> bool:
        """Start what the next message names; return whether there was one."""
        message, fds = _receive(self._client)
        if message is None:
            return False
        try:
            pid = _launch(message, fds)
        except OSError as error:
            _send(self._client, {"errno": error.errno})
            return True
        finally:
            for fd in fds:
                os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = pid
        self._selector.register(pidfd, selectors.EVENT_READ, pid)
        _send(self._client, {"pid": pid})
        return True

    def _end(self, pidfd: int, pid: int) -> None:
        self._selector.unregister(pidfd)
        os.close(pidfd)
        del self._children[pidfd]
        _kill_group(pid)  # while the number is still this process's: what outlived its leader ends with it
        _, status = os.waitpid(pid, 0)
        _send(self._client, {"exited": pid, "code": os.waitstatus_to_exitcode(status)})


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _launch(message: Mapping[str, Any], fds: Sequence[int]) -> int:
    """Fork and execute; return the pid once the program runs. Raises the OSError of whatever could not be done.

    `fds` become standard output, standard error and, if there is a third, `message["log_fd"]`.
    """
    read_end, write_end = os.pipe()  # closed by a successful exec, else it brings the reason
    pid = os.fork()
    if pid == 0:
        try:
            _become(message, fds)
        except OSError as error:
            os.write(write_end, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        reason = pipe.read()
    if reason:
        os.waitpid(pid, 0)
        raise OSError(int(reason), os.strerror(int(reason)))
    return pid


def _become(message: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Replace this forked process by the program."""
    os.setsid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # should the keeper be killed
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]  # out of the way of the numbers they will have
    for fd, number in zip(high, (1, 2, message["log_fd"]), strict=False):
        os.dup2(fd, number)
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)  # Python ignores them
    os.chdir(message["cwd"])
    os.execvpe(message["argv"][0], message["argv"], message["env"])  # noqa: S606 - it is what was asked for


# The network


def _ask_about_addresses() -> tuple[int | None, str]:
    """Let the kernel ask about what this process's children bind, connect to and send to (see addresses.py).

    Return the descriptor of its questions, or why there is none.
    """
    numbers = _ABOUT_ADDRESSES.get(platform.machine())
    if numbers is None:
        return None, f"the processor {platform.machine()} is not known here"
    architecture, sys_seccomp, bind, connect, sendto = numbers
    steps = [
        (_LOAD, 0, 0, 4),  # the architecture
        (_EQUAL, 0, 8, architecture),
        (_LOAD, 0, 0, 0),  # the call
        (_EQUAL, 5, 0, bind),
        (_EQUAL, 4, 0, connect),
        (_EQUAL, 0, 4, sendto),
        (_LOAD, 0, 0, 16 + 8 * 4),  # half of its address: zero where `send` was called
        (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOTIFY),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = (_Step * len(steps))(*(_Step(*step) for step in steps))
    program = _Program(len(steps), code)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return None, os.strerror(ctypes.get_errno())
    listener = _libc.syscall(sys_seccomp, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program))
    return (listener, "") if listener >= 0 else (None, os.strerror(ctypes.get_errno()))


class _Step(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.POINTER(_Step)))


# The file system


def _enter(spec: Mapping[str, Any]) -> None:
    """Enter a mount namespace, in a user namespace of its own where that needs one, and make it Lambda's.

    `spec`: `root`, an empty directory; `opt`, the directories whose contents /opt has; `links`, programs that stand in
    /opt/extensions by name; `binds`, [source, target, whether it can be written]; `hidden`, directories that are shown
    empty; `names`, by which a program in /var/lang/bin must be found, too; `tmp_mb`; `address`, that of
    sandbox.localdomain.
    """
    _unshare()
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    root, tmp = spec["root"], f"{spec['root']}/tmp"  # noqa: S108 - the room's own
    _mount("tmpfs", root, "tmpfs", 0, "mode=755,size=1m")
    for name in os.listdir("/"):
        if name not in _OWN:
            _mirror(f"/{name}", f"{root}/{name}")
    for name in (*_OWN[:4], *(f"var/{name}" for name in _OWN_IN_VAR)):
        os.mkdir(f"{root}/{name}")
    for name in os.listdir("/var"):
        if name not in _OWN_IN_VAR:
            _mirror(f"/var/{name}", f"{root}/var/{name}")
    _fill_opt(spec, f"{root}/opt")
    binds = [(source, root + target, writable) for source, target, writable in spec["binds"]]
    for source, target, writable in binds:
        if not writable and not target.startswith(f"{tmp}/"):
            _bind_over(source, target)
    for folder in spec["hidden"]:
        if os.path.isdir(root + folder):
            _mount("tmpfs", root + folder, "tmpfs", 0, "mode=755,size=4k")
    _name_programs(f"{root}/var/lang/bin", spec["names"])
    _name_hosts(root, spec["address"])
    _make_read_only(root)
    _bind("/proc", f"{root}/proc")
    _mount("tmpfs", tmp, "tmpfs", 0, f"mode=1777,size={spec['tmp_mb']}m")
    for source, target, writable in binds:
        if writable or target.startswith(f"{tmp}/"):
            _bind_over(source, target)
            if not writable:
                _make_read_only(target)
    os.chdir(root)
    _check(_libc.syscall(_SYS_PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount2 of the old root")
    os.chdir("/")


def _unshare() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and _libc.unshare(_CLONE_NEWNS) == 0:
        return
    _check(_libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _mirror(source: str, target: str) -> None:
    """Show an entry of the machine's file system at the same place: a link as a link, anything else by a bind mount."""
    mode = os.lstat(source).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(mode):
        os.mkdir(target)
        _bind(source, target)
    elif stat.S_ISREG(mode):
        os.close(os.open(target, os.O_CREAT))
        _bind(source, target)


def _fill_opt(spec: Mapping[str, Any], opt: str) -> None:
    """Show the contents of the merged layers in /opt, and single programs in /opt/extensions."""
    folder = spec["opt"]
    entries = sorted(os.listdir(folder)) if folder else []
    for name in entries:
        if name != "extensions" or not os.path.isdir(f"{folder}/{name}"):
            _mirror(f"{folder}/{name}", f"{opt}/{name}")
    os.makedirs(f"{opt}/extensions", exist_ok=True)
    if "extensions" in entries and os.path.isdir(f"{folder}/extensions"):
        for name in sorted(os.listdir(f"{folder}/extensions")):
            _mirror(f"{folder}/extensions/{name}", f"{opt}/extensions/{name}")
    for name, target in spec["links"].items():
        os.symlink(target, f"{opt}/extensions/{name}")


def _bind_over(source: str, target: str) -> None:
    """Bind at a place that may not exist yet."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            os.close(os.open(target, os.O_CREAT))
    _bind(source, target)


def _name_programs(folder: str, names: Mapping[str, str]) -> None:
    """Let programs be found by other names as well; where one is lacking, only what is named is left in `folder`."""
    if all(os.path.exists(f"{folder}/{name}") for name in names):
        return
    programs = {program: os.open(f"{folder}/{program}", os.O_PATH) for program in set(names.values())}
    _mount("tmpfs", folder, "tmpfs", 0, "mode=755,size=64k")
    for program, fd in programs.items():
        _bind_over(f"/proc/self/fd/{fd}", f"{folder}/{program}")
        os.close(fd)
    for name, program in names.items():
        if name != program:
            os.symlink(program, f"{folder}/{name}")


def _name_hosts(root: str, address: str) -> None:
    """Give the room an /etc/hosts in which Lambda's names lead to its own address."""
    place = os.path.realpath("/etc/hosts")
    if not os.path.isfile(place):
        raise OSError(errno.ENOENT, "There is no /etc/hosts to stand in for", place)
    with open(f"{root}/hosts", "w") as file:
        file.write(f"127.0.0.1 localhost\n{address} sandbox.localdomain sandbox\n")
        # The rest of the machine's names stays, but none that would lead elsewhere.
        with open(place) as given:
            for row in given:
                names = row.partition("#")[0].split()[1:]
                if names and not {"localhost", "sandbox", "sandbox.localdomain"} & set(names):
                    file.write(row if row.endswith("\n") else row + "\n")
    os.chmod(f"{root}/hosts", 0o644)
    _bind(f"{root}/hosts", root + place)
    os.unlink(f"{root}/hosts")


def _bind(source: str, target: str) -> None:
    _mount(source, target, None, _MS_BIND | _MS_REC)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    done = _libc.mount(*words, ctypes.c_ulong(flags), None if data is None else data.encode())
    _check(done, f"mount of {source or kind or 'the tree'} at {target}")


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("kind", ctypes.c_uint64),
        ("fd", ctypes.c_uint64),
    )


def _make_read_only(place: str) -> None:
    attr = _MountAttr(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    done = _libc.syscall(
        _SYS_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(place), _AT_RECURSIVE, ctypes.byref(attr), ctypes.sizeof(attr)
    )
    _check(done, f"mount_setattr of {place}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


# Messages


def _receive(connection: socket.socket) -> tuple[Any, list[int]]:
    """Return the next message and its file descriptors; None at the end."""
    data, more, _, _ = connection.recvmsg(_PACKET, socket.CMSG_SPACE(4 * 4))
    fds = array.array("i")
    for level, kind, given in more:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(given[: len(given) - len(given) % fds.itemsize])
    for fd in fds:
        os.set_inheritable(fd, False)
    return (json.loads(data) if data else None), list(fds)


def _send(connection: socket.socket, message: Mapping[str, Any]) -> None:
    try:
        connection.send(json.dumps(message).encode())
    except OSError:
        return  # nobody listens any more: the next reading tells, too


if __name__ == "__main__":
    main()
