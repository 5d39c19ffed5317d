"""An open stream of server-sent events, read byte by byte as it comes."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress

from tests.whole import eventually


class Stream:
    """A stream of a server on loopback, read in a thread. HTTP/1.0, so that the body comes without chunks."""

    def __init__(self, port: int, path: str, headers: Mapping[str, str]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.socket.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n{lines}\r\n".encode())
        self.text = ""
        """All that came, the head too."""
        self.ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while chunk := self.socket.recv(65_536):
            self.text += chunk.decode()
        self.ended = True

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        eventually(lambda: self.ended, "the stream's reader ends")
        self.socket.close()

    def wait_for(self, text: str, within: float = 10) -> str:
        """Wait until it holds ``text``; all that came."""
        eventually(lambda: text in self.text, f"{text!r} in the stream", within)
        return self.text

    def data(self, event: str) -> list[str]:
        """What the events of that name carried."""
        found = re.findall(rf"event: {event}\n((?:data: .*\n)+)\n", self.text)
        return [re.sub(r"^data: ", "", lines, flags=re.M) for lines in found]
