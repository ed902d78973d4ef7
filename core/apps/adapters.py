"""`ratchet adapters`: list the registry, look at a version, compare two, let one serve or try it as a canary, go back, export."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.apps.traces import _console, _when
from core.errors import AdapterError, StoreError

if TYPE_CHECKING:
    from core.slots import Slot
    from finetune.adapters import Registry, Version
    from finetune.history import Entry

KINDS = ("merged", "gguf", "gguf-adapter", "ollama")
COLOURS = {"champion": "green", "canary": "yellow", "rejected": "red", "retired": "dim", "candidate": "default"}
DELETED = "deleted_traces.json"


def add_adapters(commands: Any) -> None:
    """The command and all below it."""
    adapters = commands.add_parser("adapters", help="registered adapters: list, show, diff, promote, canary, watch, rollback, export")
    actions = adapters.add_subparsers(required=True, metavar="ACTION")
    listed = _action(actions, "list", "all versions with their states, and what the slots serve", _list)
    listed.add_argument("name", nargs="?", help="only this adapter's")
    _as_json(listed)
    show = _action(actions, "show", "one version, checked, with all that happened to it", _show)
    show.add_argument("reference", help="such as math@7")
    _as_json(show)
    diff = _action(actions, "diff", "what two versions don't have in common: settings, data, metrics, weights", _diff)
    diff.add_argument("a", help="such as math@6")
    diff.add_argument("b", help="such as math@7")
    diff.add_argument("-n", type=int, default=10, help="layers to show, the farthest apart first (default: %(default)s)")
    _as_json(diff)
    promote = _action(actions, "promote", "let a version serve, if the gate let it through", _promote)
    promote.add_argument("reference", help="such as math@7")
    promote.add_argument("--slot", help="where (default: the slot of the adapter's name)")
    promote.add_argument("--base", help="model that serves when there is no champion (default: the slot's, or the adapter's own)")
    promote.add_argument("--force", action="store_true", help="without the gate, or against it; the journal says so")
    promote.add_argument("--why", default="", help="for the journal")
    _as_json(promote)
    canary = _action(actions, "canary", "let a version answer a share of the traffic, if the gate let it through", _canary)
    canary.add_argument("reference", help="such as math@7")
    canary.add_argument("--slot", help="where (default: the slot of the adapter's name)")
    canary.add_argument("--share", type=float, default=0.1, help="of the traffic, 0 to 1 (default: %(default)s)")
    canary.add_argument("--force", action="store_true", help="without the gate, or against it; the journal says so")
    canary.add_argument("--why", default="", help="for the journal")
    _as_json(canary)
    watch = _action(actions, "watch", "promote a slot's canary or stop it, as soon as its traces have said enough", _watch)
    watch.add_argument("slot", help="such as math")
    watch.add_argument("--log-dir", default=None, help="folder or URL of the traces (default: STORE_URL, or ./logs)")
    watch.add_argument("--every", metavar="TIME", help="look again each 30s, 5m or 1h until it is decided (default: look once)")
    watch.add_argument("--look", action="store_true", help="only look; leave promoting and stopping to somebody else")
    watch.add_argument("--margin", type=float, default=0.05, help="how much worse is still good enough (default: %(default)s)")
    watch.add_argument("--alpha", type=float, default=0.05, help="chance of stopping one that is no worse (default: %(default)s)")
    watch.add_argument("--beta", type=float, default=0.05, help="chance of promoting one worse by the margin (default: %(default)s)")
    watch.add_argument("--error-ratio", type=float, default=2.0, help="how often its checks may break, at most (default: %(default)s)")
    watch.add_argument("--least", type=int, default=50, help="known outcomes before it is promoted (default: %(default)s)")
    _as_json(watch)
    rollback = _action(actions, "rollback", "let what served before serve again", _rollback)
    rollback.add_argument("slot", help="such as math")
    rollback.add_argument("--canary", action="store_true", help="only end the canary; the champion stays")
    rollback.add_argument("--why", default="", help="for the journal")
    _as_json(rollback)
    export = _action(actions, "export", "write a version as something else can serve it", _export)
    export.add_argument("reference", help="such as math@7, or an adapter directory")
    export.add_argument(
        "kind", choices=KINDS, help="a merged model directory, a GGUF file for llama.cpp (whole, or the adapter alone), a folder for Ollama"
    )
    export.add_argument("out", type=Path, help="where to")


def _action(actions: Any, name: str, about: str, run: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=about)
    parser.add_argument("--registry", type=Path, metavar="FOLDER", help="of the adapters (default: REGISTRY, or ./adapters)")
    parser.set_defaults(command=run)
    return parser


def _as_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def _registry(args: argparse.Namespace) -> Registry:
    from core.config import Settings
    from finetune.adapters import Registry

    folder = args.registry or Settings().REGISTRY
    if not folder.is_dir():
        raise AdapterError(f"there is no registry {folder}: name the folder of your adapters with --registry or REGISTRY")
    return Registry(folder)


def _list(args: argparse.Namespace) -> int:
    from rich.table import Table
    from rich.text import Text

    registry = _registry(args)
    versions, slots = registry.list(args.name), registry.slots()
    if args.json:
        print(json.dumps({"adapters": [_plain(each) for each in versions], "slots": [slot.as_dict() for slot in slots]}, indent=2))
        return 0
    table = Table("adapter", "state", "when", "base", "trained by", "on traces", "weights")
    table.columns[0].no_wrap = True
    for each in versions:
        m = each.manifest
        state = Text(each.state, COLOURS[each.state])
        if m is None:
            table.add_row(each.reference, state, "", Text(each.problem, "red"))
            continue
        table.add_row(
            each.reference, state, _when(m.created), Text(_base(m.base)), Text(m.trainer), str(len(m.trace_ids)), m.weights_sha256[:8]
        )
    console = _console()
    console.print(table)
    for slot in slots:
        console.print(_told(slot), markup=False, highlight=False)
    return 0


def _show(args: argparse.Namespace) -> int:
    registry = _registry(args)
    version, problem = registry.get(args.reference), ""
    try:
        version = registry.check(args.reference)
    except AdapterError as error:
        problem = str(error)
    history = registry.history(args.reference)
    if args.json:
        print(json.dumps({**_plain(version), "problem": problem, "history": [entry.as_dict() for entry in history]}, indent=2))
        return 1 if problem else 0
    console = _console()
    for name, value in _facts(version, problem):
        console.print(f"[bold]{name:>12}[/bold]  ", end="")
        console.print(value, markup=False, highlight=False)
    for entry in history:
        console.print(_line(entry), markup=False, highlight=False)
    return 1 if problem else 0


def _facts(version: Version, problem: str) -> list[tuple[str, str]]:
    m = version.manifest
    facts = [("adapter", f"{version.reference}, {version.state}"), ("folder", str(version.folder))]
    if m is not None:
        dataset = ", ".join(f"{key} {value}" for key, value in m.dataset.items()) or "none named"
        facts += [
            ("made", f"{_when(m.created)} by {m.trainer}, of {len(m.trace_ids)} traces{f', run {m.run}' if m.run else ''}"),
            ("domain", m.domain or "all"),
            ("base", f"{_base(m.base)} [{m.base_fingerprint}]"),
            ("fingerprint", f"{m.fingerprint} (in {m.dtype or 'unknown precision'})"),
            ("weights", m.weights_sha256),
            ("dataset", dataset),
            ("settings", _one_line(m.settings)),
            ("metrics", _one_line(m.metrics)),
            ("evaluation", _one_line(m.evaluation)),
            ("versions", _one_line(m.versions)),
        ]
        if (version.folder / DELETED).is_file():
            facts.append(("deleted", f"some of its traces were deleted since, see {DELETED} there: train again without them"))
    return [*facts, ("check", problem or "files, base and chat template are those of the manifest")]


def _diff(args: argparse.Namespace) -> int:
    from rich.table import Table
    from rich.text import Text

    from finetune.adapter_diff import diff

    registry = _registry(args)
    found = diff(registry.get(args.a), registry.get(args.b))
    if args.json:
        print(json.dumps({**found.as_dict(), "distance": found.distance}, indent=2, default=str))
        return 0
    console = _console()
    table = Table("", "", args.a, args.b)
    for group in ("settings", "data", "metrics", "versions"):
        for key, (a, b) in found[group].items():
            table.add_row(group, key, *(Text("" if value is None else str(value)) for value in (a, b)))
    table.add_row("traces", f"{found.shared_traces} in both", *map(str, found.traces))
    console.print(table)
    layers = Table("layer", "distance", f"change of {args.a}", f"change of {args.b}")
    for layer in found.layers[: args.n]:
        layers.add_row(layer.name, f"{layer.distance:.3f}", f"{layer.a:.3g}", f"{layer.b:.3g}")
    console.print(layers)
    console.print(f"all layers: {found.distance:.3f} apart, as a share of the larger change; 0 is the same")
    return 0


def _promote(args: argparse.Namespace) -> int:
    registry = _registry(args)
    slot = args.slot or args.reference.partition("@")[0]
    return _say(args, registry.promote(args.reference, slot, force=args.force, why=args.why, base=args.base or ""))


def _canary(args: argparse.Namespace) -> int:
    slot = args.slot or args.reference.partition("@")[0]
    return _say(args, _registry(args).start_canary(args.reference, slot, args.share, force=args.force, why=args.why))


def _watch(args: argparse.Namespace) -> int:
    """Looks, says where the canary stands, and looks again until it is decided or somebody else has ended it.

    A store that could be read once and is gone for a while does not end it.
    """
    from core.apps.loop import seconds_of
    from core.config import Settings
    from finetune.canary import CanaryPlan
    from finetune.canary_watch import watch

    plan = CanaryPlan(args.alpha, args.beta, args.margin, args.error_ratio, args.least)
    pause = seconds_of(args.every) if args.every else 0.0
    registry, where = _registry(args), args.log_dir or Settings().STORE_URL or "./logs"
    looked = False
    while True:
        try:
            standing = watch(where, registry, args.slot, plan, act=not args.look)
        except StoreError as error:
            if not (pause and looked):
                raise
            print(f"slot {args.slot}: {error}; looking again in {pause:g} s", file=sys.stderr, flush=True)
            time.sleep(pause)
            continue
        looked = True
        if standing is None:
            print(json.dumps(None) if args.json else f"slot {args.slot}: no canary")
            return 0
        print(json.dumps(standing.as_dict()) if args.json else f"slot {args.slot}: {standing.verdict}; {standing.reason}", flush=True)
        if standing.verdict != "continue" or not pause:
            return 0
        time.sleep(pause)


def _rollback(args: argparse.Namespace) -> int:
    registry = _registry(args)
    change = registry.stop_canary if args.canary else registry.rollback
    return _say(args, change(args.slot, why=args.why))


def _export(args: argparse.Namespace) -> int:
    from finetune.export import export

    folder = Path(args.reference) if Path(args.reference).is_dir() else _registry(args).check(args.reference).folder
    done = export(folder, args.kind, args.out)
    print(f"{done.path}: {done.kind}, {done.bytes / 1e6:.1f} MB{f'; {done.parity.told()}' if done.parity else ''}")
    return 0


def _say(args: argparse.Namespace, slot: Slot) -> int:
    print(json.dumps(slot.as_dict()) if args.json else _told(slot))
    return 0


def _told(slot: Slot) -> str:
    canary = f"; {slot.share:.0%} to the canary {slot.canary}" if slot.canary else ""
    before = f"; before it {slot.previous or slot.base}" if slot.champion else ""
    return f"slot {slot.name}: {slot.champion or f'{slot.base}, its base,'} serves{before}{canary} (epoch {slot.epoch})"


def _line(entry: Entry) -> str:
    told = [_when(entry.time), entry.what, entry.reference]
    told += [f"in {entry.slot}"] if entry.slot else []
    told += ["by force"] if entry.forced else []
    told += [f"by {entry.who}"]
    return f"{' '.join(told)}{f': {entry.why}' if entry.why else ''}"


def _plain(version: Version) -> dict[str, Any]:
    values = version.as_dict()
    if values["manifest"]:
        for name in ("probe", "base_probe"):
            values["manifest"].pop(name)
    return {**values, "folder": str(version.folder)}


def _base(base: str) -> str:
    from core.providers.loading import EMBEDDED_DIRECTORY

    return "embedded" if Path(base) == EMBEDDED_DIRECTORY else base


def _one_line(values: Any) -> str:
    return json.dumps(values, default=str, ensure_ascii=False) if values else "none"
