"""Processes that wait for each other: whoever fails, is killed or does not belong to them must not hang the others."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest
from conftest import REPOSITORY, child_environment
from test_distributed import free_address
from test_preemption import ends, start

from vision.errors import UserError
from vision.training import meeting
from vision.training.meeting import meet

# A process whose collective the others do not join. Its own number is the last word, and {act} what process 1 does.
CHILD = """
import os, signal, sys, time
import jax
import numpy as np
from jax.experimental import multihost_utils
from vision import program
from vision.errors import ConfigError, Stopped, UserError
from vision.training import processes

address, count, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def main(argv):
    {join}
    multihost_utils.process_allgather(np.int32(1))
    print("together", flush=True)
    {act}
    multihost_utils.process_allgather(np.int32(1))

program.run(main)
"""
JOIN = "processes.join(address, count, number)"
# What a Cloud TPU's metadata are to JAX: it finds the others by itself, and only JAX knows them.
LIKE_A_TPU = """
    from functools import partial
    from vision.training.clusters import Place
    given = {"coordinator_address": address, "num_processes": count, "process_id": number}
    jax.distributed.initialize = partial(jax.distributed.initialize, cluster_detection_method="deactivate", **given)
    processes.find = lambda way: (Place("the TPU's metadata", count=None), "")
    processes.join()
"""


def run_children(act, count=2, join=JOIN, timeout=60):
    """Returns exit codes, what was said, and how many seconds it took from when all were together."""
    code, address = CHILD.replace("{join}", join).replace("{act}", act), free_address()
    command = [sys.executable, "-c", code, address, str(count)]
    options = {"cwd": REPOSITORY, "env": child_environment(1), "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    children = [subprocess.Popen([*command, str(number)], **options, **pipes) for number in range(count)]
    try:
        for child in children:
            assert "together\n" in iter(child.stdout.readline, ""), ends(children, timeout=timeout)
        began = time.monotonic()
        codes, said = ends(children, timeout=timeout)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    return codes, said, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize(("count", "victim"), [(2, 0), (2, 1), (3, 0), (3, 2)])
def test_an_error_of_one_process_ends_all_with_its_exit_code(count, victim):
    """JAX would have them wait for each other: this one at its end, the others in a collective."""
    codes, said, seconds = run_children(f"if number == {victim}: raise UserError('no such thing')", count)
    assert codes == [2] * count, said
    assert seconds < 20
    for number in range(count):
        if number == victim:
            assert said[number].strip().splitlines()[-1] == "error: no such thing"
        else:
            assert f"process {victim} of this run has failed" in said[number]
        assert "Traceback" not in said[number]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "code", "others"),
    [
        ("if number == 1: os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", 130, 130),
        ("if number == 1: raise BrokenPipeError", 0, 75),
        ("if number == 1: raise ValueError('unforeseen')", 1, 75),
    ],
)
def test_no_other_end_of_one_process_hangs_the_others(act, code, others):
    codes, said, seconds = run_children(act)
    assert codes == [others, code], said
    assert seconds < 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "code"),
    [
        # The same error at about the same time, though nothing made it one: each says it in its own words.
        ("time.sleep(number); raise ConfigError('no metric')", 2),
        # One that all agreed on: process 0 may take as long as it likes, for a report.
        ("time.sleep(0 if number else 9); raise Stopped('no metric', signal_number=2)", 130),
        ("with processes.together():\n        if number: raise UserError('no metric')", 2),
    ],
)
def test_an_error_that_all_meet_is_said_by_each(act, code):
    codes, said, seconds = run_children(act)
    assert codes == [code, code], said
    assert seconds < 30
    assert "no metric" in said[1]
    assert "no metric" in said[0] or "another process of this run stopped" in said[0]
    assert not any("has failed" in each or "has ended" in each for each in said)


@pytest.mark.slow
def test_a_run_whose_first_process_cannot_write_ends_in_all(tmp_path):
    """The trace's folder is the first one's alone, and the others are in the next step by then."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "profile").write_text("a file")
    codes, said = ends(start(tmp_path / "run", 2, "--profile", "20:30"), timeout=250)
    assert codes == [2, 2], said
    assert "cannot write" in said[0].strip().splitlines()[-1]
    assert "process 0 of this run has failed" in said[1]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_noticed_at_once_where_only_jax_knows_the_others(victim):
    """JAX's heartbeat takes 100 s, or SIGABRT where the first one is gone; the launcher starts again after either."""
    act = f"if number == {victim}: os.kill(os.getpid(), signal.SIGKILL)"
    codes, said, seconds = run_children(act, join=LIKE_A_TPU)
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] in ((75,) if victim else (75, -signal.SIGABRT)), said
    assert seconds < 20


@pytest.fixture
def opened():
    """What closes connections when a test has ended."""
    with ExitStack() as stack:
        yield stack


def connect(address, opened):
    host, port = address.split(":")
    end = time.monotonic() + 20
    while True:
        try:
            return opened.enter_context(socket.create_connection((host, int(port)), timeout=20))
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.01)


class Meeting(threading.Thread):
    """One process's side of the meeting, in a thread."""

    def __init__(self, address, count, number, timeout=20.0):
        super().__init__(daemon=True)
        self._given, self._timeout, self.lines, self.error = (address, count, number), timeout, None, None
        self.start()

    def run(self):
        try:
            self.lines = meet(*self._given, timeout=self._timeout)
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(20)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.lines


def test_silent_strangers_neither_end_the_first_process_nor_hold_up_the_others(opened):
    """A port scan, a balancer's probe: connections that say nothing, something else, half a line, or hang up."""
    address, began = free_address(), time.monotonic()
    first = Meeting(address, 3, 0)
    strangers = [connect(address, opened) for _ in range(4)]
    strangers[1].sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    strangers[2].sendall(b'{"number": 1, "cou')
    strangers[3].close()
    more = connect(address, opened)
    more.sendall(b'{"number": Infinity, "count": 3}\n[]\n')
    assert more.recv(9) == b"", "who is no process is sent away"
    others = [Meeting(address, 3, number) for number in (2, 1)]
    lines = [each.result() for each in (first, *others)]
    for each in lines:
        for line in each.values():
            opened.enter_context(line)
    assert [each.keys() for each in lines] == [{1, 2}, {0}, {0}]
    assert time.monotonic() - began < 4, "nobody waited for who says nothing"
    for each in (strangers[0], strangers[2]):
        assert each.recv(9) == b""


def test_a_silent_stranger_is_not_counted_where_a_process_is_missing(opened):
    address = free_address()
    first = Meeting(address, 3, 0, timeout=1.0)
    stranger, second = connect(address, opened), connect(address, opened)
    for byte in json.dumps({"number": 2, "count": 3}).encode() + b"\n":
        second.sendall(bytes([byte]))  # a line may come in pieces
    with pytest.raises(UserError, match=r"^2 of 3 processes came within 1 s; missing: 1$"):
        first.result()
    assert meeting.heard(second) == "2 of 3 processes came within 1 s; missing: 1"
    assert meeting.heard(stranger) == ""


class Lost(socket.socket):
    """A connection to a host that has lost its power; of the kernel's errors only the last is a ConnectionError."""

    number = 0

    def recv(self, most):
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET])
def test_a_host_that_does_not_answer_any_more_is_gone(number):
    with Lost() as line:
        line.number = number
        assert meeting.heard(line) == ""
