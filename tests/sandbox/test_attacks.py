"""Every attack of the suite, at every tier that this machine offers."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attack_suite import programs
from process_tree import descendants

from core.errors import SandboxError
from core.sandbox import Call, Limits, Raised, Report, Returned, Stopped, Tier, available, run, same
from core.sandbox.inside import zygote
from core.sandbox.process import FIRST_UID, UIDS

FORGE, HARM, EXHAUST, HONEST = (programs(kind) for kind in ("forge", "harm", "exhaust", "honest"))
MIB = 1 << 20
SHORT = Limits(wall=0.6, cpu=1, memory=256 * MIB, output=64 << 10, disk=4 * MIB)
LONG = Limits(wall=20, cpu=10)


def tiers() -> list[str]:
    found = []
    for tier in ("namespaces", "process"):
        try:
            available(tier)
        except SandboxError:
            continue
        found.append(tier)
    return found


TIERS = tiers()
pytestmark = pytest.mark.skipif(not TIERS, reason="no tier can be reached here")


def examined(source: str, tier: str, limits: Limits = LONG) -> tuple[bool, Report]:
    """Whether f(x) == x*x + 3*x + 1 for inputs that nobody can guess, in an order that nobody can guess."""
    inputs = random.Random(secrets.randbits(64)).sample(range(1000, 10**6), 4)
    report = run(source, [Call("f", (x,)) for x in inputs], limits, tier)
    right = [isinstance(r, Returned) and same(x * x + 3 * x + 1, r.value) for x, r in zip(inputs, report.values, strict=True)]
    return all(right), report


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", FORGE)
def test_no_forgery_is_judged_right(name: str, tier: str) -> None:
    right, report = examined(FORGE[name], tier, Limits(wall=1.5, cpu=2))
    assert not right, report


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_are_judged_right(name: str, tier: str) -> None:
    right, report = examined(HONEST[name], tier)
    assert right, report


class World:
    """What there is to steal, reach or break."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.secret = "secret-" + secrets.token_hex(16)
        self.secret_bytes = ("memory-" + secrets.token_hex(28)).encode()
        self.outside = folder / "outside"
        self.outside.mkdir()
        (self.outside / "victim").write_text("untouched")
        (self.outside / "secret").write_text(self.secret)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.tcp.setblocking(False)
        self.abstract = f"ratchet-test-{secrets.token_hex(8)}"
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind("\0" + self.abstract if sys.platform == "linux" else str(folder / "socket"))
        self.unix.listen()
        self.unix.setblocking(False)
        self.bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

    def facts(self) -> dict[str, object]:
        return {
            "secret": str(self.outside / "secret"),
            "outside": str(self.outside),
            "victim_file": str(self.outside / "victim"),
            "home": str(Path.home()),
            "port": self.tcp.getsockname()[1],
            "abstract": self.abstract,
            "bystander": self.bystander.pid,
            "host": os.getpid(),
            "address": id(self.secret_bytes) + 32,
        }

    def harm(self, report: Report) -> list[str]:
        told = repr(report.values) + report.stdout
        found = [word for word in (self.secret, self.secret_bytes.decode(), "HARM") if word in told]
        found += [] if self.bystander.poll() is None else ["bystander"]
        found += [] if sorted(p.name for p in self.outside.iterdir()) == ["secret", "victim"] else ["outside"]
        found += [] if (self.outside / "victim").read_text() == "untouched" else ["victim"]
        for listener in (self.tcp, self.unix):
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                continue
            found.append("connection")
        return found

    def close(self) -> None:
        self.bystander.kill()
        self.bystander.wait()
        self.tcp.close()
        self.unix.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    world = World(tmp_path_factory.mktemp("world"))
    os.environ["RATCHET_TEST_SECRET"] = world.secret
    yield world
    del os.environ["RATCHET_TEST_SECRET"]
    world.close()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", HARM)
def test_nothing_outside_is_reached_or_broken(name: str, tier: str, world: World) -> None:
    report = run(HARM[name], [Call("f", (world.facts(),))], LONG, tier)
    assert world.harm(report) == [], report


@pytest.fixture(scope="module")
def exhausted() -> dict[tuple[str, str], Report]:
    """All at once, as they would come: one that eats everything must not starve the others."""
    jobs = [(name, tier) for tier in TIERS for name in EXHAUST]
    with ThreadPoolExecutor(6) as pool:
        reports = pool.map(lambda job: run(EXHAUST[job[0]], [Call("f", (None,))], SHORT, job[1]), jobs)
        return dict(zip(jobs, reports, strict=True))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("name", EXHAUST)
def test_nothing_is_used_up(name: str, tier: str, exhausted: dict[tuple[str, str], Report]) -> None:
    report = exhausted[name, tier]
    assert isinstance(report.values[0], Raised | Stopped), report
    assert len(report.stdout) <= SHORT.output
    # a child of the process tier is forked from this one, and until it begins its own program it is as large
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if report.isolation is Tier.PROCESS else 0
    assert report.peak_memory is None or report.peak_memory <= max(SHORT.memory, host) + 32 * MIB


def test_the_suite_is_as_large_as_it_says() -> None:
    assert [len(kind) for kind in (FORGE, HARM, EXHAUST, HONEST)] == [65, 71, 37, 14]


def owners(pids: Iterable[int]) -> list[int]:
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            found.append(os.stat(f"/proc/{pid}").st_uid)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="uids of their own are given by root")
def test_nobody_survives_an_attack(exhausted: dict[tuple[str, str], Report]) -> None:
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    beside = set(descendants(os.getppid())) - set(descendants(os.getpid()))  # of other workers; what outlives its host leaves its tree
    alive = [uid for uid in owners(pids - beside) if FIRST_UID <= uid < FIRST_UID + UIDS]
    ours = owners(descendants(os.getpid()))  # a check can't leave its zygote, and other hosts have zygotes too
    waiting = [uid for uid in ours if zygote.FIRST_UID <= uid < zygote.FIRST_UID + zygote.UIDS]
    assert alive == []
    assert len(waiting) <= zygote.SPARES
