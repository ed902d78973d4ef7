"""Hosts of every kind: ordinary users, forks, hosts that are killed, and hosts that lack something."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from process_tree import descendants, running
from test_sandbox_sessions import TIERS, every_tier

from core.errors import SandboxError
from core.sandbox import Call, Returned, open_session, run

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent
NOBODY = 23456
PRELUDE = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(TESTS)!r}]; sys.dont_write_bytecode = True\n"


def script(body: str) -> str:
    return PRELUDE + textwrap.dedent(body)


def public_python() -> str | None:
    """An interpreter that an ordinary user can start: the one under test may lie in root's home."""
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        test = "import os, sys; sys.exit(sys.version_info < (3, 11) or not os.access(os.path.realpath(sys._base_executable), os.X_OK))"
        if (
            subprocess.run(
                ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", path, "-c", test], check=False
            ).returncode
            == 0
        ):
            return path
    return None


as_root = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")


def as_ordinary_user(body: str, cwd: str = "/") -> str:
    python = public_python()
    if python is None:
        pytest.skip("no Python that an ordinary user can start")
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python, "-"]
    done = subprocess.run(command, input=script(body), cwd=cwd, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@as_root
@every_tier
def test_an_ordinary_user_gets_the_same_protection(tier: str) -> None:
    said = as_ordinary_user(f"""
        import os, pathlib, secrets, tempfile
        from attack_suite import programs
        from core.sandbox import Call, Limits, Returned, available, run
        tier = {tier!r}
        every = 5 if tier == "process" else 2
        assert available(tier) == tier
        secret = secrets.token_hex(20).encode()
        outside = pathlib.Path(tempfile.mkdtemp())
        for name in ("victim", "secret"):
            (outside / name).write_text(secret.decode())
        world = dict(secret=str(outside / "secret"), victim_file=str(outside / "victim"), outside=str(outside), home=str(outside))
        world |= dict(port=1, abstract="x", bystander=os.getppid(), host=os.getpid(), address=id(secret) + 32)
        limits = Limits(wall=1, cpu=2)
        for name, source in list(programs("forge").items())[::every]:
            report = run(source, [Call("f", (7001,))], limits, tier)
            assert report.values[0] != Returned(7001 * 7001 + 3 * 7001 + 1), (name, report)
        for name, source in list(programs("harm").items())[::every]:
            told = repr(run(source, [Call("f", (world,))], limits, tier))
            assert "HARM" not in told and secret.decode() not in told and "root:" not in told, (name, told)
            assert sorted(p.name for p in outside.iterdir()) == ["secret", "victim"], name
        for name, source in programs("honest").items():
            report = run(source, [Call("f", (7,))], Limits(), tier)
            assert report.values == (Returned(71),), (name, report)
        print("held")
    """)
    assert said == "held\n"


@as_root
@every_tier
def test_a_host_that_can_not_read_its_own_folder(tier: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o700)
    said = as_ordinary_user(
        f"from core.sandbox import *\nprint(run('def f(): return 1', [Call('f')], tier={tier!r}).values)", cwd=str(closed)
    )
    assert said == "(Returned(value=1),)\n"


@as_root
@every_tier
def test_a_host_at_its_limit_of_processes_is_told_so(tier: str) -> None:
    said = as_ordinary_user(f"""
        import resource
        from core.errors import SandboxError
        from core.sandbox import run
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        try:
            run("", [], tier={tier!r})
        except SandboxError as error:
            print(error)
    """)
    assert "ulimit -u" in said


@every_tier
def test_a_host_without_standard_descriptors(tier: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    body = f"""
        import os
        os.closerange(0, 3)
        from core.sandbox import *
        values = run("def f(x): return x", [Call("f", (5,))], tier={tier!r}).values
        text = run_program("python", "print(input())", "hello", tier={tier!r}).stdout
        open({str(out)!r}, "w").write(repr((values, text)))
    """
    subprocess.run([sys.executable, "-c", script(body)], check=True, timeout=100)
    assert out.read_text() == "((Returned(value=5),), 'hello\\n')"


@every_tier
def test_a_fork_of_the_host_has_sandboxes_of_its_own(tier: str) -> None:
    with open_session("def f(x): return x", tier=tier) as session:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                good = run("def f(x): return x", [Call("f", (5,))], tier=tier).values == (Returned(5),)
                session.close()
                code = 0 if good else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert session.call("f", 6) == Returned(6)


@every_tier
@pytest.mark.parametrize("busy", ["while True: pass", "import time\n    time.sleep(1000)"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_left_when_the_host_is_killed(tier: str, busy: str) -> None:
    source = f"def f():\n    {busy}"
    body = f"""
        import threading, time
        from core.sandbox import *
        session = open_session({source!r}, Limits(wall=100, cpu=100), {tier!r})
        threading.Thread(target=session.call, args=("f",), daemon=True).start()
        time.sleep(0.3)
        print("ready", flush=True)
        time.sleep(1000)
    """
    with subprocess.Popen([sys.executable, "-c", script(body)], stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"ready\n"
        started = descendants(host.pid)
        host.send_signal(signal.SIGKILL)
    assert started
    for _ in range(200):
        left = {pid for pid in started if running(pid)}
        if not left:
            return
        time.sleep(0.05)
    raise AssertionError(f"still running: {left}")


def test_no_room_for_scratch_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    run("", [], tier="process")
    monkeypatch.setattr(tempfile, "tempdir", "/proc")
    with pytest.raises(SandboxError, match=r"no scratch folder for a sandbox: .*; free some space, or set TMPDIR"):
        run("", [], tier="process")


def test_too_many_open_files_is_told() -> None:
    body = """
        import os, resource
        from core.errors import SandboxError
        from core.sandbox import run
        run("", [], tier="process")
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        try:
            while True: os.open("/dev/null", os.O_RDONLY)
        except OSError:
            pass
        try:
            run("", [], tier="process")
        except SandboxError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", script(body)], capture_output=True, text=True, check=True, timeout=100)
    assert "raise `ulimit -n`" in done.stdout


in_a_user_namespace = pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-Ur", "true"], check=False).returncode != 0,
    reason="no user namespaces",
)


@in_a_user_namespace
@every_tier
def test_the_root_of_a_rootless_container_is_an_ordinary_user(tier: str) -> None:
    body = f"from core.sandbox import *\nprint(run('def f(): return 1', [Call('f')], tier={tier!r}).values)"
    done = subprocess.run(["unshare", "-Ur", sys.executable, "-c", script(body)], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout == "(Returned(value=1),)\n"


@in_a_user_namespace
@pytest.mark.skipif("namespaces" not in TIERS, reason="needs the namespaces tier")
def test_a_kernel_that_refuses_namespaces_is_an_error_with_advice_and_no_weaker_tier() -> None:
    body = """
        from core.errors import SandboxError
        from core.sandbox import run
        with open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")
        try:
            run("", [])
        except SandboxError as error:
            print(error)
    """
    done = subprocess.run(["unshare", "-Ur", sys.executable, "-c", script(body)], capture_output=True, text=True, check=True, timeout=100)
    assert "no sandbox of the namespaces tier: [Errno 28] unshare user namespace" in done.stdout
    assert 'tier="process"' in done.stdout
