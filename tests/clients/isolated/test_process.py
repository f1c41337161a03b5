"""`latentd run` in a terminal and behind a filter of system calls."""

import ctypes
import os
import platform
import pty
import struct
import subprocess

from test_programs import LATENTD, ORDINARY, PYTHON, environment

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
UNSHARE = {"x86_64": 272, "aarch64": 97}


def test_a_terminal_is_the_programs_and_an_interrupt_ends_no_relay(data):
    program = (
        "import os, signal, sys, urllib.request\n"
        "interrupted = []\n"
        "signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))\n"
        "print('terminal', os.isatty(0), os.tcgetpgrp(0) == os.getpgrp(), flush=True)\n"
        "while not interrupted: signal.pause()\n"
        "print('answered', urllib.request.urlopen('https://fal.run/.well-known/jwks.json').status, flush=True)\n"
    )
    command = [*ORDINARY, LATENTD, "run", "--data-dir", str(data), "--", PYTHON, "-c", program]
    process, terminal = pty.fork()
    if process == 0:
        os.execvpe(command[0], command, environment())
    said = read_until(terminal, b"terminal True True")
    os.write(terminal, b"\x03")
    said = read_until(terminal, b"answered 200")
    assert b"answered 200" in said
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def read_until(terminal, words):
    said = b""
    while words not in said:
        try:
            said += os.read(terminal, 1000)
        except OSError:
            raise AssertionError(said) from None
    return said


def test_a_filter_of_system_calls_is_named(data):
    """As a container has one."""

    def filtered():
        libc = ctypes.CDLL(None, use_errno=True)
        load, jump, errno, allow = 0x20, 0x15, 0x50001, 0x7FFF0000
        code = [(load, 0, 0, 0), (jump, 0, 1, UNSHARE[platform.machine()]), (6, 0, 0, errno), (6, 0, 0, allow)]
        rules = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in code))
        program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(rules))
        assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) == 0

    done = subprocess.run(
        [LATENTD, "run", "--data-dir", data, "--", "true"], env=environment(), preexec_fn=filtered, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "--security-opt seccomp=unconfined" in done.stderr and done.stderr.count("\n") == 1
