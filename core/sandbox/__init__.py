"""Untrusted code, run so that it can give values and nothing else.

The parent holds the tests and the expected values. The child holds the solution; it is sent one call at a time and gives one value back,
made of exact built-in types, and the parent compares (`same`). No word of the child means "pass", at any tier. Each request carries a
number that can't be guessed: a reply before its request, a second reply, or bytes that are no value end the session.

    (result,) = run(source, [Call("square", (7,))]).values
    right = isinstance(result, Returned) and same(49, result.value)

`open_session` keeps a solution loaded and may bind names in it to functions of the parent: a tester that holds the text of
`check(candidate)` calls the solution through such a stand-in. `run_program` runs whole programs on their standard input.

Tiers, and what they do not stop:

namespaces   Linux. A warm interpreter forks one child per check into its own user, pid and mount namespaces; net, ipc, uts and cgroup
             namespaces are apart from the host's and shared by the checks, which have no system call that reaches into them. With a root
             of its own, read only, Landlock, an allow-list of system calls, no capabilities and resource limits. It starts no processes,
             only threads, so that the limits of one process are the limits of all. Not stopped: bugs of the kernel itself, and guessing
             secrets from how long things take.
process      Everywhere. A fresh interpreter with an empty environment, resource limits, a uid of its own when the host is root, and on
             Linux Landlock and the same list of system calls where the kernel has them, less chmod and utime. Not stopped: where Landlock
             is missing, reading what the uid can read; where seccomp is missing (macOS), the network, other processes and signals to
             them, and grandchildren that leave their session. A host whose memory could be read is refused.
container    A command of yours in front of `python3`. It is as strong as that command makes it.

A tier that can't be reached is a SandboxError, never a weaker tier: canary attacks try each tier once in a process (`available`).
A `Raised` is what the child says that it raised, and never proof that a check held. All text that comes back is untrusted text.
Only the standard library can be imported inside, and arguments that a solution changes in place do not change here. There is no memory
cgroup: a check is one process without shared memory files, and its own limits bound the same.
"""

from core.sandbox.compare import same
from core.sandbox.probe import available, leaks
from core.sandbox.programs import run_program
from core.sandbox.records import Call, CallResult, Limits, ProgramReport, Proxy, Raised, Report, Returned, Stopped, Tier
from core.sandbox.session import Session, open_session, run

__all__ = [
    "Call",
    "CallResult",
    "Limits",
    "ProgramReport",
    "Proxy",
    "Raised",
    "Report",
    "Returned",
    "Session",
    "Stopped",
    "Tier",
    "available",
    "leaks",
    "open_session",
    "run",
    "run_program",
    "same",
]
