"""The filter says what it should of every call, on the machines whose numbers are known."""

import errno
import re
import struct
from pathlib import Path

import pytest

from tiararodney.posix_sdc.worlds.bwrap import seccomp

ALLOW, PERM, NOSYS = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS


def judged(program, number, machine, *args):
    """Run a classic BPF program over one call, as the kernel would; only what filters use is known."""
    args = (*args, *[0] * (6 - len(args)))
    data = struct.pack("<iIQ6Q", number, machine, 0, *args)
    lines = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at = value = 0
    while True:
        code, true, false, operand = lines[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:
            return operand
        else:
            met = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            at += true if met else false


@pytest.fixture(params=seccomp.MACHINES)
def machine(request):
    return request.param, seccomp.MACHINES[request.param]


def test_every_refused_call_is_refused_and_others_are_not(machine):
    name, kind = machine
    program = seccomp.program(name)
    refused = {row[kind.column] for row in seccomp._REFUSED.values()} - {None}
    special = {kind.clone, kind.clone3, kind.ioctl}
    for number in range(460):
        expected = PERM if number in refused else NOSYS if number == kind.clone3 else ALLOW
        assert judged(program, number, kind.audit) == expected, number
    assert not refused & special
    assert len(refused) == len(seccomp._REFUSED) - (3 if kind.column else 0)


def test_a_new_namespace_is_refused_and_a_new_process_is_not(machine):
    name, kind = machine
    program = seccomp.program(name)
    fork, thread = 0x01200011, 0x3D0F00
    assert judged(program, kind.clone, kind.audit, fork) == ALLOW
    assert judged(program, kind.clone, kind.audit, thread) == ALLOW
    for space in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert judged(program, kind.clone, kind.audit, space | fork) == PERM, hex(space)


def test_typing_into_a_terminal_is_refused_and_asking_it_is_not(machine):
    name, kind = machine
    program = seccomp.program(name)
    assert judged(program, kind.ioctl, kind.audit, 0, 0x5412) == PERM
    assert judged(program, kind.ioctl, kind.audit, 0, 0x5401) == ALLOW


def test_calls_by_another_machines_numbers_do_not_exist(machine):
    name, kind = machine
    program = seccomp.program(name)
    assert judged(program, 39, 0x40000003) == NOSYS
    assert judged(program, 0x40000000 | 39, kind.audit) == NOSYS


def test_a_machine_that_is_not_known_has_no_filter():
    assert seccomp.program("riscv64") == b""


def test_the_filter_is_on_in_a_session(stand_up):
    said = stand_up().run("grep -E '^Seccomp:' /proc/self/status").output
    assert said.split() == ["Seccomp:", "2"]


@pytest.mark.parametrize(
    ("header", "name"),
    [("x86_64-linux-gnu/asm/unistd_64.h", "x86_64"), ("asm-generic/unistd.h", "aarch64")],
)
def test_the_numbers_are_those_of_the_kernels_headers(header, name):
    path = Path("/usr/include", header)
    if not path.exists():
        pytest.skip(f"no {path} on this machine")
    told = {n: int(v) for n, v in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text())}
    kind = seccomp.MACHINES[name]
    ours = {call: row[kind.column] for call, row in seccomp._REFUSED.items() if row[kind.column] is not None}
    ours |= {"clone": kind.clone, "clone3": kind.clone3, "ioctl": kind.ioctl}
    assert ours == {call: told.get(call) for call in ours}
