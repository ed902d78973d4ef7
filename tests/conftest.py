"""For all tests: no deadlines in hypothesis, since speed belongs to benchmarks; nothing asks a model hub."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

settings.register_profile("ratchet", deadline=None)
settings.load_profile("ratchet")
