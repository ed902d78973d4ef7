"""Whole programs on standard input and output."""

from __future__ import annotations

import shutil

import pytest
from test_sandbox_sessions import every_tier

from core.errors import SandboxError
from core.sandbox import Limits, run_program

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@every_tier
def test_a_program_reads_its_input_and_leaves_with_its_code(tier: str) -> None:
    report = run_program("python", "import sys\nprint(sum(map(int, sys.stdin)))\nsys.exit(3)", "1\n2\n3\n", tier=tier)
    assert (report.stdout, report.exit_code, report.stopped, report.stderr) == ("6\n", 3, None, "")
    assert report.isolation == tier


@every_tier
def test_a_program_is_main_and_its_error_is_told(tier: str) -> None:
    report = run_program("python", "if __name__ == '__main__':\n    print(input())\n1/0", "grün", tier=tier)
    assert (report.stdout, report.exit_code) == ("grün\n", 1)
    assert report.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "worker" not in report.stderr


@every_tier
@pytest.mark.parametrize(
    ("source", "stopped"),
    [
        ("while True: pass", "wall"),
        ("while True: print('x' * 1000)", "output"),
        ("import os, time\nos.closerange(0, 20)\ntime.sleep(100)", "wall"),
        ("import ctypes\nctypes.string_at(0)", "signal SIGSEGV"),
        ("x" * (2 << 20), "source: 2097152 characters are too long, at most 1048576 bytes are sent"),
    ],
)
def test_a_program_that_is_stopped_has_no_exit_code(source: str, stopped: str, tier: str) -> None:
    report = run_program("python", source, limits=Limits(wall=1, output=100_000), tier=tier)
    assert (report.stopped, report.exit_code) == (stopped, None)
    assert len(report.stdout) <= 100_000


@every_tier
def test_a_large_input_and_a_program_that_does_not_read_it(tier: str) -> None:
    text = "1 " * 3_000_000
    assert run_program("python", "print(len(input()))", text, tier=tier).stdout == "6000000\n"
    assert run_program("python", "print('done')", text, tier=tier).stdout == "done\n"


@every_tier
@needs_node
def test_javascript_runs_where_node_is_installed(tier: str) -> None:
    source = (
        "const n = require('fs').readFileSync(0, 'utf8').split(' ').map(Number); console.log(n.reduce((a, b) => a + b)); process.exit(4)"
    )
    report = run_program("javascript", source, "1 2 3", tier=tier)
    assert (report.stdout, report.exit_code, report.stopped) == ("6\n", 4, None)


@every_tier
@needs_node
@pytest.mark.parametrize(
    "attack",
    [
        "require('child_process').execSync('id')",
        "require('fs').readFileSync('/etc/passwd')",
        "require('fs').writeFileSync('/usr/bin/planted', 'x')",
        "if (process.env.RATCHET_TEST_WORD) console.log('HARM'); process.exit(9)",
        "const s = require('net').connect(1, '127.0.0.1'); s.on('error', e => process.exit(e.code === 'EPERM' ? 9 : 0)); return",
        "process.kill(process.ppid || 2, 'SIGTERM')",
    ],
)
def test_javascript_is_confined_too(attack: str, tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_TEST_WORD", "secret")
    report = run_program("javascript", attack + "\nconsole.log('HARM')", tier=tier)
    assert "HARM" not in report.stdout
    assert report.exit_code != 0


@every_tier
def test_any_interpreter_can_be_given_as_words(tier: str) -> None:
    if shutil.which("sh") is None:
        pytest.skip("no shell")
    report = run_program(["sh", "-e"], "read x; echo $((x * 2))", "21\n", tier=tier)
    assert (report.stdout, report.exit_code) == ("42\n", 0)


def test_a_missing_interpreter_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxError, match="node is not installed: install it"):
        run_program("javascript", "")
    with pytest.raises(SandboxError, match="a command is a list of words"):
        run_program([], "")
