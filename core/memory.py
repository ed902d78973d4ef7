"""The answer cache as the settings ask for it: which file, what a worker's version is, who judges, and what is never written."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from agents.npc import NPC
from core.cache import FILE, AnswerCache, Rules, worker_version
from core.config import Settings
from core.errors import ConfigError
from core.judging import Judging
from core.meaning import load_embedder
from core.types import Model, Result, Task, Verdict
from logs.redact import Redactor


class Memory:
    """Verified answers of an orchestrator's workers. Raises ConfigError when the embedding model that it needs is not there.

    `own_verify`: something else than the settings decides what is verified.
    """

    def __init__(self, settings: Settings, judging: Judging, log_dir: Path, *, own_verify: bool = False) -> None:
        s, embedder = settings, settings.CACHE_EMBEDDINGS if settings.CACHE == "semantic" else None
        if s.CACHE == "semantic" and embedder is None:
            raise ConfigError('CACHE="semantic" needs an embedding model: set CACHE_EMBEDDINGS, for example to "all-MiniLM-L6-v2"')
        # what they say may be another thing tomorrow, so that each answer is judged again
        changing = own_verify or bool(s.VERIFIERS or s.CORPUS or s.ENTAILMENT_MODEL or s.JUDGE_MODEL)
        self._judged_by = (*sorted(s.VERIFIED_BY), s.SANDBOX, str(changing), _package_version())
        self._judging = judging
        self._redactor = Redactor()
        rules = Rules(s.CACHE_SIZE, s.CACHE_MIN_REWARD, s.CACHE_SIMILARITY, trust=not changing)
        embed = load_embedder(embedder) if embedder else None
        self._cache = AnswerCache(s.CACHE_FILE or log_dir / FILE, rules, embed=embed, embedder=embedder or "")

    def find(self, task: Task, npc: NPC, model: Model) -> Result | None:
        """An earlier answer that holds for this task, by the weights that serve now."""
        return self._cache.find(task, self._version(npc, model.name, model.fingerprint), self._judge)

    def keep(self, task: Task, npc: NPC, result: Result) -> bool:
        """Remember an answer under the weights that gave it; none with a secret in it. True when it is kept."""
        told = "\n".join((task.prompt, result.text, result.verdict.reason))
        if not result.verified or self._redactor.up_to_date().text(told) != told:
            return False
        return self._cache.keep(task, self._version(npc, result.model, result.fingerprint), result)

    def close(self) -> None:
        """Idempotent."""
        self._cache.close()

    def _version(self, npc: NPC, model: str, fingerprint: str | None) -> str:
        return worker_version(model, fingerprint, npc.primary_directive, *self._judged_by)

    def _judge(self, task: Task, text: str) -> tuple[Verdict, float | None]:
        verdict = self._judging.verdict(task, text, complete=True)
        return verdict, self._judging.reward(task, text, verdict, 0).value


@cache
def _package_version() -> str:
    """The shipped verifiers change with it, and with them what a stored verdict is worth."""
    try:
        return version("ratchet-agents")
    except PackageNotFoundError:
        return ""
