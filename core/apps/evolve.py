"""`ratchet evolve`: the best router over your adapters, on tasks; `ratchet route`: ask it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ConfigError, RatchetError, TaskError

if TYPE_CHECKING:
    from rich.console import Console

    from core.types import Task
    from finetune.ensemble.evolving import Evolved
    from finetune.ensemble.fitness import Score
    from finetune.ensemble.genes import ModelGene


def add_evolve(commands: Any) -> None:
    """Both commands, among those of the command line."""
    evolve = commands.add_parser("evolve", help="find the best router over your adapters: specialists first, search for the rest")
    evolve.add_argument(
        "adapters", nargs="*", help="NAME@VERSION, an adapter directory, or SPECIALIZATION=DIRECTORY (default: the champions of all slots)"
    )
    evolve.add_argument("--registry", type=Path, metavar="FOLDER", help="of the adapters (default: REGISTRY)")
    evolve.add_argument("--tasks", type=Path, help="JSON lines with prompt and reference (default: generated ones of the domains)")
    evolve.add_argument("-n", type=int, default=80, help="generated tasks that decide, of each domain (default: %(default)s)")
    evolve.add_argument("--log-dir", type=Path, help="calibrate on verified traces there, not on half of the tasks")
    evolve.add_argument("--population", type=int, default=12, help="genomes of a generation (default: %(default)s)")
    evolve.add_argument("--generations", type=int, default=10, help="most generations (default: %(default)s)")
    evolve.add_argument("--fast-threshold", type=float, default=0.8, help="how sure a specialist must be (default: %(default)s)")
    evolve.add_argument("--ensemble-threshold", type=float, default=0.6, help="how sure all of them must be (default: %(default)s)")
    evolve.add_argument("--gate", choices=("triggers", "learned"), default="triggers", help="what calls a specialist")
    evolve.add_argument("--seed", type=int, default=0)
    evolve.add_argument("--out", type=Path, default=Path("router.json"), help="the router's file (default: %(default)s)")
    evolve.add_argument("--env", type=Path, metavar="FILE", help="write RATCHET_RESPONSE_ROUTER there too, such as .env")
    evolve.set_defaults(command=_evolve)

    route = commands.add_parser("route", help="answer one question by the router that ratchet evolve made")
    route.add_argument("question")
    route.add_argument("--router", type=Path, help="its file (default: RESPONSE_ROUTER)")
    route.set_defaults(command=_route)


def _evolve(args: argparse.Namespace) -> int:
    from rich.console import Console

    from finetune.ensemble.evolving import CONFIG, evolve_router
    from finetune.ensemble.files import save_router
    from finetune.ensemble.router import ResponseRouter

    console = Console()
    if args.out.is_dir() or not os.access(_there(args.out), os.W_OK):  # before the work, and not after it
        raise ConfigError(f"can't write {args.out}: name a file in a folder that you may write to")
    genes = _genes(args)
    deciding, calibration, held_out = _tasks(args, genes)
    config = CONFIG.replace(population_size=args.population, generations=args.generations, seed=args.seed, progress=True)
    with ResponseRouter(args.fast_threshold, args.ensemble_threshold, gate=args.gate, models=max(8, len(genes))) as router:
        found = evolve_router(router, genes, deciding, calibration=calibration, held_out=held_out, config=config)
        save_router(args.out, router, told={"fitness": found.fitness, **_scores(found)})
    _show(console, found, len(held_out))
    if args.env:
        _set(args.env, args.out)
    console.print(
        f'use it with Settings(RESPONSE_ROUTER="{args.out}"), or ask it: ratchet route QUESTION --router {args.out}', highlight=False
    )
    return 0


def _route(args: argparse.Namespace) -> int:
    import sys

    from finetune.ensemble.files import load_router

    with load_router(args.router) as router:
        found = router.route_query(args.question)
    print(found["response"])
    sure = "unknown" if found["confidence"] is None else f"{found['confidence']:.2f}"
    sure += "" if found["calibrated"] or found["path"] == "reasoning" else " (not calibrated)"
    genes = [router.genome[place].specialization for place in found["genes"]] if router.genome else []
    print(f"\n{' and '.join([found['path'], *genes])}, confidence {sure}, {found['seconds']:.2f} s", file=sys.stderr)
    return 0


def _genes(args: argparse.Namespace) -> list[ModelGene]:
    from finetune.ensemble.genes import ModelGene, triggers_of

    found = [_specialist(name, args) for name in args.adapters] or _champions(args)
    return [ModelGene(sft_path=str(path), specialization=name, trigger_patterns=triggers_of(name)) for name, path in found]


def _specialist(name: str, args: argparse.Namespace) -> tuple[str, Path]:
    """(specialization, directory) of what was named."""
    from core.slots import REFERENCE
    from finetune.adapters import read_manifest
    from finetune.ensemble.genes import GENERAL

    own, _, place = name.rpartition("=")
    folder = _registry(args).get(place).folder if REFERENCE.fullmatch(place) else Path(place)
    if not folder.is_dir():
        raise ConfigError(f"there is no adapter {name!r}: give NAME@VERSION, an adapter directory, or SPECIALIZATION=DIRECTORY")
    try:
        return own or read_manifest(folder).domain or GENERAL, folder
    except RatchetError as error:
        raise ConfigError(f"{folder} does not say what it is for ({error}): write SPECIALIZATION={folder}") from error


def _champions(args: argparse.Namespace) -> list[tuple[str, Path]]:
    slots = [slot for slot in _registry(args).slots() if slot.champion]
    if not slots:
        raise ConfigError("no slot of the registry has a champion: promote an adapter, or name adapters to evolve over")
    return [_specialist(str(slot.champion), args) for slot in slots]


def _registry(args: argparse.Namespace) -> Any:
    from core.config import Settings
    from finetune.adapters import Registry

    folder = args.registry or Settings().REGISTRY
    if not folder.is_dir():
        raise ConfigError(f"there is no registry {folder}: name the folder of your adapters with --registry, or adapter directories")
    return Registry(folder)


def _tasks(args: argparse.Namespace, genes: Sequence[ModelGene]) -> tuple[list[Task], list[Task], list[Task]]:
    """Those that decide, those that calibrate, and those that are looked at once: none of them twice."""
    from core.tasks.files import read_tasks
    from core.tasks.splits import split_of
    from core.types import Split

    if args.n < 1:
        raise ConfigError(f"-n is {args.n}: choose 1 or more")
    if args.tasks:
        tasks = read_tasks(args.tasks)
        held_out = [task for task in tasks if split_of(task) is Split.REPORT]
        known = [task for task in tasks if split_of(task) is not Split.REPORT]
    else:
        known, held_out = _drawn(args, genes)
    if args.log_dir:
        return known, _logged(args.log_dir, genes, known, held_out), held_out
    return known[::2], known[1::2], held_out


def _drawn(args: argparse.Namespace, genes: Sequence[ModelGene]) -> tuple[list[Task], list[Task]]:
    import random

    from core.registry import SOURCES
    from core.tasks.draw import draw
    from core.types import Split

    domains = sorted({gene.specialization for gene in genes} & set(SOURCES))
    if not domains:
        raise TaskError("no task is generated for these specialists: give your own with --tasks FILE")
    rng = random.Random(args.seed)
    most = args.n if args.log_dir else 2 * args.n
    known = [task for domain in domains for task in draw(domain, most, Split.GATE, rng)]
    held_out = [task for domain in domains for task in draw(domain, args.n, Split.REPORT, rng)]
    return known, held_out


def _logged(log_dir: Path, genes: Sequence[ModelGene], *apart: Sequence[Task]) -> list[Task]:
    """Tasks of verified traces that none of the adapters was trained on, and that are not asked otherwise."""
    from core.types import Outcome
    from finetune.adapters import read_manifest
    from finetune.ensemble.calibration import tasks_of
    from logs.reading import read_traces

    trained: set[str] = set()
    for gene in genes:
        try:
            trained.update(read_manifest(str(gene.sft_path)).trace_ids)
        except RatchetError:
            continue  # one without a manifest does not say
    traces = list(read_traces(log_dir, outcome=Outcome.PASS))
    shown = {trace.task.id for trace in traces if trace.id in trained} | {task.id for tasks in apart for task in tasks}
    return [task for task in tasks_of(traces) if task.id not in shown]


def _scores(found: Evolved) -> dict[str, Any]:
    return {name: None if score is None else score.as_dict() for name, score in _rows(found)}


def _rows(found: Evolved) -> list[tuple[str, Score | None]]:
    return [("winner", found.winner), ("before", found.start), ("search alone", found.system2)]


def _there(path: Path) -> Path:
    """The nearest folder above that is there."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())


def _show(console: Console, found: Evolved, held_out: int) -> None:
    from rich.table import Table

    table = Table("gene", "threshold", "called by", "calibrated on")
    judged = {each.model: each for each in found.calibrated}
    for gene in found.genome:
        known = judged.get(gene.sft_path or "")
        told = "nothing" if known is None else f"{known.judged} answers" if known.calibration else known.reason
        table.add_row(gene.specialization, f"{gene.confidence_threshold:.2f}", ", ".join(gene.trigger_patterns), told)
    console.print(table)
    if not held_out:
        console.print("no task was held out, so that nothing is known of other tasks: give more tasks", highlight=False)
        return
    scores = Table(f"on {held_out} held-out tasks", "right", "answered at once", "seconds a question")
    for name, score in _rows(found):
        if score is not None:
            scores.add_row(name, f"{score.right / score.n:.1%}", f"{score.fast:.0%}", f"{score.seconds:.3f}")
    console.print(scores)


def _set(env: Path, router: Path) -> None:
    """RATCHET_RESPONSE_ROUTER in a file of settings; its other lines stay."""
    from core.config import PREFIX

    name = f"{PREFIX}RESPONSE_ROUTER="
    try:
        lines = env.read_text(encoding="utf-8").splitlines() if env.exists() else []
        kept = [line for line in lines if not line.strip().startswith(name)]
        env.write_text("\n".join([*kept, f"{name}{router.resolve()}"]) + "\n", encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't write the settings file {env} ({error}): add this line yourself: {name}{router}") from error
