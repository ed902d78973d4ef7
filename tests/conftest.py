"""For all tests: no deadlines in hypothesis, since speed belongs to benchmarks; nothing asks a model hub."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker of xdist has one core: two threads each would wait for one another

settings.register_profile("ratchet", deadline=None)
settings.load_profile("ratchet")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: a worker of xdist takes whole files, and a long one at the end would be waited for."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
