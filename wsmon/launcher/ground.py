"""What must be ours before anything starts: the data directory, its lock, the port. No Django.

Each trouble here is the reader's first minute with wsmon, so each has one clear line.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path

LOCK_NAME = "wsmon.lock"
BACKLOG = 2048


class LaunchError(Exception):
    """wsmon cannot start; the message is one line for the person at the terminal."""


class LockTaken(LaunchError):
    """Another process uses the data directory."""

    def __init__(self, data_dir: Path, pid: int, purpose: str) -> None:
        self.pid = pid
        self.purpose = purpose
        super().__init__(
            f"the data directory {data_dir} is in use by `manage.py {purpose}` (process {pid}): "
            "stop that first, or set WSMON_DATA_DIR to another directory"
        )


class Lock:
    """The exclusive use of one data directory; the kernel releases it when this process ends."""

    def __init__(self, data_dir: Path, purpose: str) -> None:
        """Take it at once. Raises LockTaken, or LaunchError when the directory is not writable."""
        path = data_dir / LOCK_NAME
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise _unwritable(path, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = os.read(self._descriptor, 200).decode(errors="replace").split()
            os.close(self._descriptor)
            pid = int(words[0]) if words and words[0].isdigit() else 0
            raise LockTaken(data_dir, pid, words[1] if len(words) > 1 else "?") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()} {purpose}\n".encode(), 0)

    def release(self) -> None:
        """Give it back; the file stays, since removing it would race with the next holder."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def make_data_dir(path: Path) -> Path:
    """Create the data directory if needed and return its absolute path. Raises LaunchError."""
    path = path.absolute()
    try:
        path.mkdir(mode=0o711 if os.getuid() == 0 else 0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise _unwritable(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    return path


def _unwritable(path: Path, error: OSError) -> LaunchError:
    return LaunchError(
        f"cannot write to {path}: {error.strerror}. Give this account the directory, "
        "or set WSMON_DATA_DIR to another one"
    )


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, from WSMON_BIND: ``HOST:PORT``, ``[IPV6]:PORT`` or ``PORT``."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises LaunchError when `text` is no address."""
        host, _, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise LaunchError(f"WSMON_BIND={text!r} is no address: expected HOST:PORT, e.g. 127.0.0.1:8000")
        return cls(host, int(port))

    @property
    def url(self) -> str:
        """What a person on this machine opens."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}/"

    @property
    def is_loopback(self) -> bool:
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


def listen(address: Address) -> socket.socket:
    """A listening socket on `address`. Raises LaunchError naming WSMON_BIND and what is in the way."""
    name = f"WSMON_BIND={address.host}:{address.port}"
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        server = socket.socket(family, kind, protocol)
    except OSError as error:
        raise LaunchError(f"{name}: {error.strerror}") from error
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(target)
        server.listen(BACKLOG)
    except OSError as error:
        server.close()
        if error.errno != errno.EADDRINUSE:
            raise LaunchError(f"cannot listen on {name}: {error.strerror}") from error
        raise LaunchError(
            f"the port {address.port} is taken{_taken_by(address.port)} ({name}): "
            "stop that program, or set WSMON_BIND to another port"
        ) from error
    server.setblocking(False)
    return server


def _taken_by(port: int) -> str:
    """`` by NAME (process PID)``, if this account may know."""
    import psutil  # noqa: PLC0415  (only when something is wrong)

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        return ""
    return ""
