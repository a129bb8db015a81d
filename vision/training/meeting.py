"""How the processes of a run meet: each opens a line to the first one's port, and all begin together."""

import contextlib
import json
import selectors
import socket
import time

from vision.errors import UserError

_QUIET = 30  # seconds without a sign of life until a host is asked whether it is there
_LONGEST = 200  # bytes of a line


def meet(address: str, count: int, number: int, *, timeout: float) -> dict[int, socket.socket]:
    """Returns the lines of one process, once all the processes are there.

    Args:
      address: ``host:port`` of the first; the port is free again for JAX when this returns.
      count: how many processes there are.
      number: which of them this is.
      timeout: seconds to wait for the others.

    Returns:
      Number of another process -> the connection: for the first one all the others, for these the first.

    Raises:
      UserError: they did not come, or do not agree on how many they are and which is which.
    """
    host, _, port = address.rpartition(":")
    end = time.monotonic() + timeout
    if number == 0:
        return _gather(int(port), count, end, timeout)
    return {0: _reach(host.strip("[]"), int(port), count, number, end, timeout)}


def _gather(port: int, count: int, end: float, timeout: float) -> dict[int, socket.socket]:
    """The first process: waits for all the others, and tells them to begin."""
    try:
        if socket.has_dualstack_ipv6():
            server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=count)
        else:
            server = socket.create_server(("", port), backlog=count)
    except OSError as error:
        raise UserError(
            f"--coordinator_address: cannot listen on port {port}: {error.strerror}; take another"
        ) from error
    lines: dict[int, socket.socket] = {}
    strangers: dict[socket.socket, bytes] = {}  # what each has said so far; many a probe says nothing at all
    problem = ""
    with server, selectors.DefaultSelector() as waiting:
        server.setblocking(False)  # who has left again is not waited for
        waiting.register(server, selectors.EVENT_READ, server)
        while len(lines) < count - 1 and not problem:
            if (left := end - time.monotonic()) <= 0:
                missing = ", ".join(str(number) for number in range(1, count) if number not in lines)
                problem = f"{len(lines) + 1} of {count} processes came within {timeout:.0f} s; missing: {missing}"
            for key, _ in waiting.select(max(left, 0.0)):
                line: socket.socket = key.data
                if line is server:
                    with contextlib.suppress(OSError):
                        line, _ = server.accept()
                        waiting.register(line, selectors.EVENT_READ, line)
                        strangers[line] = b""
                    continue
                more = _received(line, _LONGEST)
                strangers[line] += more
                if more and not more.endswith(b"\n") and len(strangers[line]) < _LONGEST:
                    continue
                waiting.unregister(line)
                said = _introduced(strangers.pop(line))
                if said is None:
                    line.close()
                    continue
                number, others = said
                if others != count:
                    problem = f"process {number} was told of {others} processes, process 0 of {count}"
                elif number in lines or number == 0:
                    problem = f"two processes were told that they are number {number}"
                lines[number if number not in lines else -1] = line
    for line in strangers:
        line.close()
    for line in lines.values():
        say(line, problem or "begin")
    if problem:
        for line in lines.values():
            line.close()
        raise UserError(problem)
    return {number: _kept_alive(line) for number, line in lines.items()}


def _introduced(data: bytes) -> tuple[int, int] | None:
    """Returns which process says this, and how many it was told of; None is a stranger."""
    try:
        said = json.loads(data)
        number, count = int(said["number"]), int(said["count"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return (number, count) if 0 <= number < count else None


def _reach(host: str, port: int, count: int, number: int, end: float, timeout: float) -> socket.socket:
    """Any other process: finds the first one and waits until it says that all are there."""
    reason = ""
    while (left := end - time.monotonic()) > 0:
        try:
            line = socket.create_connection((host, port), timeout=min(left, 10.0))
            line.settimeout(left + 10.0)  # the first one gives up first, and says who is missing
            say(line, json.dumps({"number": number, "count": count}))
            text = heard(line)
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


def say(line: socket.socket, text: str) -> None:
    """Sends a line; one that nobody hears any more is no error."""
    with contextlib.suppress(OSError):
        line.sendall(text.encode() + b"\n")


def heard(line: socket.socket) -> str:
    """Returns the next line, or an empty text where there will be none.

    Raises:
      TimeoutError: the line has a timeout, and it is over.
    """
    data = b""
    while not data.endswith(b"\n"):
        more = _received(line, 1)  # no more than this line, which is a short one
        if not more or len(data) > _LONGEST:
            return ""
        data += more
    return data.decode(errors="replace").strip()


def _received(line: socket.socket, most: int) -> bytes:
    """Returns what there is, and nothing where the connection has ended in whatever way."""
    try:
        return line.recv(most)
    except TimeoutError:
        if line.gettimeout() is not None:
            raise
        return b""  # the kernel's: the host has not answered for too long
    except OSError:
        return b""
