"""A line to each of the other processes of a run: to begin together, and to notice at once when one is gone.

JAX's own service ends a process by SIGABRT where the others do not come, and by default notices only after minutes
that one was killed, when all the others wait in a collective. Here every process holds a connection to the first one,
which the kernel closes when a process ends in whatever way. Those that end in good order say so before.
"""

import atexit
import contextlib
import json
import os
import selectors
import socket
import sys
import threading
import time
from types import TracebackType

from vision.errors import Preempted, UserError

_PATIENCE = 2.0  # seconds for the others to hear of a process that is gone
_QUIET = 30  # seconds without a sign of life until a host is asked whether it is there


class Peers:
    """The connections of one process; the first has one to each of the others, these have one to the first."""

    def __init__(self, address: str, count: int, number: int, *, timeout: float):
        """Returns once all the processes are there.

        Args:
          address: ``host:port`` of the first; the port is free again for JAX when this returns.
          count: how many processes there are.
          number: which of them this is.
          timeout: seconds to wait for the others.

        Raises:
          UserError: they did not come, or do not agree on how many they are and which is which.
        """
        self._number, self._failed, self._leaving = number, False, False
        host, _, port = address.rpartition(":")
        end = time.monotonic() + timeout
        if number == 0:
            self._lines = _gather(int(port), count, end, timeout)
        else:
            self._lines = {0: _reach(host.strip("[]"), int(port), count, number, end, timeout)}

    def watch(self) -> None:
        """Ends this process, with the exit code that asks to be started again, when another is gone."""
        before = sys.excepthook

        def failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if kind.__name__ == "JaxRuntimeError":
                time.sleep(_PATIENCE)  # a collective that broke off: the process that is gone is soon known
            self._failed = True
            before(kind, error, trace)

        sys.excepthook = failed
        threading.Thread(target=self._listen, name="peers", daemon=True).start()
        atexit.register(self._leave)  # after JAX's own, and so before it

    def _leave(self) -> None:
        self._leaving = True
        for line in self._lines.values():
            _say(line, "failed" if self._failed else "bye")

    def _listen(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for number, line in self._lines.items():
                waiting.register(line, selectors.EVENT_READ, number)
            while waiting.get_map():
                for key, _ in waiting.select():
                    number, text = int(key.data), _heard(self._lines[int(key.data)])
                    if text == "bye":
                        waiting.unregister(key.fileobj)
                    elif text.startswith("gone"):
                        self._end(int(text.split()[1]))
                    else:
                        self._end(number)

    def _end(self, gone: int) -> None:
        if self._leaving:
            return
        error = Preempted(
            f"process {gone} of this run has ended; so does process {self._number}: "
            "the same commands go on from the last checkpoint"
        )
        os.write(2, f"{error}\n".encode())
        if self._number == 0:
            for number, line in self._lines.items():
                if number != gone:
                    _say(line, f"gone {gone}")
            time.sleep(_PATIENCE)  # with this process goes JAX's service, which would end the others less kindly
        os._exit(error.exit_code)


def _gather(port: int, count: int, end: float, timeout: float) -> dict[int, socket.socket]:
    """The first process: waits for all the others, and tells them to begin."""
    lines: dict[int, socket.socket] = {}
    try:
        if socket.has_dualstack_ipv6():
            server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=count)
        else:
            server = socket.create_server(("", port), backlog=count)
    except OSError as error:
        raise UserError(
            f"--coordinator_address: cannot listen on port {port}: {error.strerror}; take another"
        ) from error
    problem = ""
    with server:
        while len(lines) < count - 1 and not problem:
            server.settimeout(max(end - time.monotonic(), 0.01))
            try:
                line, _ = server.accept()
            except TimeoutError:
                missing = ", ".join(str(number) for number in range(1, count) if number not in lines)
                problem = f"{len(lines) + 1} of {count} processes came within {timeout:.0f} s; missing: {missing}"
                break
            line.settimeout(5.0)
            try:
                said = json.loads(_heard(line))
                number, others = int(said["number"]), int(said["count"])
            except (ValueError, KeyError, TypeError):
                line.close()  # a stranger
                continue
            if others != count:
                problem = f"process {number} was told of {others} processes, process 0 of {count}"
            elif number in lines or number == 0:
                problem = f"two processes were told that they are number {number}"
            lines[number if number not in lines else -1] = line
    for line in lines.values():
        _say(line, problem or "begin")
        line.settimeout(None)
    if problem:
        raise UserError(problem)
    return {number: _kept_alive(line) for number, line in lines.items()}


def _reach(host: str, port: int, count: int, number: int, end: float, timeout: float) -> socket.socket:
    """Any other process: finds the first one and waits until it says that all are there."""
    reason = ""
    while (left := end - time.monotonic()) > 0:
        try:
            line = socket.create_connection((host, port), timeout=min(left, 10.0))
            line.settimeout(left + 10.0)  # the first one gives up first, and says who is missing
            _say(line, json.dumps({"number": number, "count": count}))
            text = _heard(line)
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
        else:
            if text == "begin":
                line.settimeout(None)
                return _kept_alive(line)
            if text:
                raise UserError(text)
            reason = "it closed the connection"
        time.sleep(min(0.2, max(left, 0.0)))
    raise UserError(f"process 0 is not to be found at {host}:{port} within {timeout:.0f} s: {reason}")


def _kept_alive(line: socket.socket) -> socket.socket:
    """Lets the kernel ask after a host that is quiet, so that one which lost its power is noticed too."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _QUIET), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return line


def _say(line: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError):
        line.sendall(text.encode() + b"\n")


def _heard(line: socket.socket) -> str:
    """Returns the next line, or an empty text where there will be none."""
    data = b""
    while not data.endswith(b"\n"):
        try:
            more = line.recv(1)  # no more than this line, which is a short one
        except ConnectionError:
            return ""
        if not more or len(data) > 200:
            return ""
        data += more
    return data.decode(errors="replace").strip()
