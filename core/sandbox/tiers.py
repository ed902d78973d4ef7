"""From the tier that was asked for to a started child."""

from __future__ import annotations

import sys

from core.errors import SandboxError
from core.sandbox.child import Child, Plan, check_container
from core.sandbox.process import ProcessChild
from core.sandbox.records import Tier


def start(plan: Plan, tier: str) -> Child:
    """A child in the tier asked for. Never in a weaker one."""
    if chosen(plan, tier) is not Tier.NAMESPACES:
        return ProcessChild(plan)
    from core.sandbox.namespaces import NamespaceChild  # Linux only

    return NamespaceChild(plan)


def chosen(plan: Plan, tier: str) -> Tier:
    """The tier that a name means here."""
    strongest = Tier.NAMESPACES if sys.platform == "linux" else Tier.PROCESS
    try:
        wanted = strongest if tier == "strongest" else Tier(tier)
    except ValueError:
        raise SandboxError(f"there is no tier {tier!r}: choose strongest, {', '.join(Tier)}") from None
    if wanted is Tier.NAMESPACES and sys.platform != "linux":
        raise SandboxError('the tier "namespaces" needs Linux: choose "process" here')
    if wanted is Tier.CONTAINER:
        check_container(plan.container)
    elif plan.container:
        raise SandboxError('a container command goes with tier="container"')
    return wanted
