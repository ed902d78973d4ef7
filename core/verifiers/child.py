"""The child's end of a pool: its limits, and JSON lines in and out."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, TextIO

MEMORY = 1024**3

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def begin(memory: int = MEMORY) -> TextIO:
    """Limit this process and return where its replies go; whatever libraries print goes to stderr from now on.

    Memory is bounded and no file can be written, where the system offers it. One thread, since each takes memory for itself.
    """
    replies, sys.stdout = sys.stdout, sys.stderr
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return replies


def serve(replies: TextIO, answer: Answer, cpu_seconds: float = 0.0, between: Callable[[], object] = lambda: None) -> None:
    """Say that it is ready and answer requests until the input ends, each within so much computing; 0 for no limit.

    What `between` prepares for the next request is made while nobody waits.
    """
    between()
    _say(replies, {"ready": True})
    for line in sys.stdin:
        _allow(cpu_seconds)
        request = json.loads(line)
        _say(replies, {"id": request["id"], **answer(request)})
        _allow(0)
        between()


def _allow(seconds: float) -> None:
    """The process is ended after that much computing, also when nobody is left to kill it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def _say(replies: TextIO, response: dict[str, Any]) -> None:
    replies.write(json.dumps(response) + "\n")
    replies.flush()
