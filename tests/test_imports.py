import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "trl", "litellm", "ollama", "datasets", "sympy", "math_verify", "matplotlib", "pandas")


def modules_after(code):
    """The top-level modules that a fresh interpreter has loaded when the code is done."""
    report = "\nimport sys; print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize(
    "code",
    [
        "import core.orchestrator",
        "import core.apps.cli",
        "import agents.npc, agents.workers, logs.store, core.verifiers, core.tasks.draw",
        "from core.orchestrator import Orchestrator\nOrchestrator().close()",
        "from core.apps.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
    ],
)
def test_what_everybody_loads_is_light(code):
    loaded = modules_after(code)

    assert "core" in loaded or "agents" in loaded
    assert not loaded & set(HEAVY)
