"""Evolve a worker's directive and sampling on a set of tasks, with the embedded model: `python examples/evolve_npc.py`.

The worker begins badly set: too hot, and cut off early. Fitness is the share of the gate's tasks that the domain's verifier passes; the
report's tasks are looked at once, at the end. The embedded model reads no directive, so that here sampling decides; name a real one with
RATCHET_MATH_WORKER_MODEL, and with RATCHET_CREATIVE_WORKER_MODEL one that proposes directives.
"""

from __future__ import annotations

import asyncio
import random

from agents.npc import NPC
from agents.workers import hire
from core.config import EMBEDDED
from core.orchestrator import Orchestrator
from core.tasks.draw import draw
from core.types import Domain, Request, Sampling, Split, Task
from finetune.gate import decide
from finetune.ge import Fields, GAConfig, GeneticEvolver, Number, Prompts

SHORTER = "You calculate. Write one calculation a line, as `a op b = c`. End with a line `Answer: ...`."


async def judged(orchestrator: Orchestrator, npc: NPC, tasks: list[Task]) -> list[bool]:
    """Right or wrong for each task. The same task has the same seed whoever answers, so that luck is the same for all."""
    model = orchestrator.model_for(Domain.MATH)

    async def right(seed: int, task: Task) -> bool:
        sampling = Sampling(npc.temperature or 0.0, max_tokens=npc.max_tokens or 256, seed=seed)
        (answer,) = (await model.complete(Request(npc.messages(task.prompt), 1, sampling))).completions
        return answer.finish == "end" and orchestrator.verifiers(task, answer.text).passed

    return await asyncio.gather(*(right(seed, task) for seed, task in enumerate(tasks)))


def main(generations: int = 8, gate: int = 120, report: int = 300) -> None:
    """The ten lines are those inside the `with`."""
    with Orchestrator() as orchestrator:
        worker = hire(Domain.MATH, orchestrator.settings).replace(temperature=1.5, max_tokens=24)
        tasks = draw("math", gate, Split.GATE, random.Random(1), levels=(1, 2))
        writes = orchestrator.settings.CREATIVE_WORKER_MODEL != EMBEDDED
        propose = (lambda prompt: orchestrator.infer(prompt, "creative", strategy="single").text) if writes else None
        directives = Prompts([worker.primary_directive, SHORTER], propose)
        space = Fields(worker, primary_directive=directives, temperature=Number(0, 1.5), max_tokens=Number(8, 128, whole=True))

        async def fitness(npc: NPC) -> float:
            return sum(await judged(orchestrator, npc, tasks)) / len(tasks)

        config = GAConfig(8, generations, mutation_rate=0.5, seed=1, parallel="asyncio", workers=4, progress=True)
        evolver = GeneticEvolver.over(space, fitness, config)
        best = evolver.run() or worker

        held_out = draw("math", report, Split.REPORT, random.Random(2), levels=(1, 2))
        before, after = (asyncio.run(judged(orchestrator, npc, held_out)) for npc in (worker, best))
    for row in evolver.history:
        print(f"generation {row.generation}: best {row.best_fitness:.1%}, average {row.avg_fitness:.1%}, {row.evaluations} evaluations")
    print(f"temperature {best.temperature}, max_tokens {best.max_tokens}, directive: {best.primary_directive}")
    found = decide(before, after)
    print(f"held out: {found.champion} before, {found.candidate} after; {found.reason}")


if __name__ == "__main__":
    main()
