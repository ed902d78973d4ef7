"""What is right must not depend on how busy the machine is: only tests of the wall itself keep it where it is."""

import pytest

import core.verifiers.pool

OF_THE_WALL = ("test_symbolic_pool", "test_math_bad_input", "test_math_verifier")


@pytest.fixture(autouse=True)
def _unhurried(request, monkeypatch):
    if request.module.__name__.rpartition(".")[2] not in OF_THE_WALL:
        monkeypatch.setattr(core.verifiers.pool, "STRETCH", 20.0)
