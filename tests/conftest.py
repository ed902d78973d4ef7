"""For all tests: no deadlines in hypothesis, since speed belongs to benchmarks; nothing asks a model hub."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker of xdist has one core: two threads each would wait for one another

settings.register_profile("ratchet", deadline=None)
settings.load_profile("ratchet")
