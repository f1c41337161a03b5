"""`latentd run` in a terminal and under a seccomp filter."""

import ctypes
import os
import platform
import pty
import struct
import subprocess

from test_programs import LATENTD, ORDINARY, PYTHON, environment

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
UNSHARE = {"x86_64": 272, "aarch64": 97}


def test_the_program_owns_the_terminal_and_an_interrupt_does_not_end_the_relay(data):
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
    output = read_until(terminal, b"terminal True True")
    os.write(terminal, b"\x03")
    output = read_until(terminal, b"answered 200")
    assert b"answered 200" in output
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def read_until(terminal, words):
    output = b""
    while words not in output:
        try:
            output += os.read(terminal, 1000)
        except OSError:
            raise AssertionError(output) from None
    return output


def test_a_seccomp_filter_is_reported(data):
    """A filter as in a container."""

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
