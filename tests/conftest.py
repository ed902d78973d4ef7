"""For all tests: no deadlines in hypothesis, since speed belongs to benchmarks; nothing asks a model hub."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import settings

from core.errors import ProviderError

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker of xdist has one core: two threads each would wait for one another

settings.register_profile("ratchet", deadline=None)
settings.load_profile("ratchet")


@pytest.fixture(scope="module", autouse=True)
def models_end_with_their_module() -> Iterator[None]:
    """Tests of another file must not meet a base that was left loaded, with the adapters of this one."""
    yield
    local = sys.modules.get("core.providers.local")
    for host, _ in list(local._shared.values()) if local else ():
        for client in list(host._clients):
            host.leave(client, ProviderError("its test left it open"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: a worker of xdist takes whole files, and a long one at the end would be waited for."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
