"""What the demo leaves behind: report.json, report.md and accuracy.png, all from one dictionary."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.gate import wilson

COLOURS = {"before": "#9aa5b1", "steps_forced": "#e0a458", "after": "#2a7f62"}
NAMES = {"before": "before", "steps_forced": "before, forced to write steps", "after": "after"}


def interval_of(right: Sequence[bool]) -> dict[str, Any]:
    """accuracy, interval and n of a list of right and wrong."""
    found = wilson(sum(right), len(right))
    return {"accuracy": round(found.accuracy, 4), "interval": [round(found.low, 4), round(found.high, 4)], "n": found.n}


def write_report(report: dict[str, Any], out: Path) -> None:
    """All three files."""
    (out / "report.json").write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    (out / "report.md").write_text(page(report), encoding="utf-8")
    draw_accuracy(report, out / "accuracy.png")


def told(record: dict[str, Any]) -> str:
    """`68.1 % [65.4, 70.7]`."""
    low, high = record["interval"]
    return f"{record['accuracy']:.1%} [{low:.1%}, {high:.1%}]"


def page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    split = report["report"]
    levels = sorted(split["before"]["by_level"])
    lines = [
        f"# What the loop did, seed {report['seed']}",
        "",
        "" if not report["control"] else f"**This is the `{report['control']}` control: nothing here should improve.**\n",
        "![accuracy](accuracy.png)",
        "",
        f"On {split['before']['n']} held-out problems that were never collected and never pre-trained on; greedy, one answer, no search.",
        "95 % intervals in brackets.",
        "",
        "| worker | all | " + " | ".join(f"level {level}" for level in levels) + " |",
        "|---|---|" + "---|" * len(levels),
        *(
            f"| {NAMES[k]} | {told(split[k])} | " + " | ".join(f"{split[k]['by_level'][x]['accuracy']:.1%}" for x in levels) + " |"
            for k in NAMES
        ),
        "",
        f"Against the first worker: McNemar p = {split['p_value']:.2g}. Against the first worker when it is forced to write steps "
        f"(its first token may not be `Answer`): p = {split['p_value_against_steps_forced']:.2g}.",
        "",
        "Most of the rise is elicitation: the first worker knows how to work in steps and blurts out an answer instead. "
        "The middle row is what forcing it to write steps brings by itself; what the loop adds lies between the last two rows.",
        "",
        "| share of answers | no steps | steps in one go | steps taken apart |",
        "|---|---|---|---|",
        *(
            f"| {NAMES[k]} | {ways['direct']:.0%} | {ways['short']:.0%} | {ways['worked']:.0%} |"
            for k, ways in split["ways_of_working"].items()
        ),
        "",
        "## Rounds, on the gate split",
        "",
        "| round | accuracy | gained / lost | p | | rows | pairs | seconds by phase |",
        "|---|---|---|---|---|---|---|---|",
        *(_round_row(r) for r in report["rounds"]),
        "",
        "## With search",
        "",
        "LATS, at most 12 requests of up to 4 samples, without reference answers: the search ends on what it can recompute by itself. "
        "That check decides these problems, so this is an upper bound for problems that can't be recomputed.",
        "",
        f"| before | {told(report['search']['before'])} | {report['search']['before']['tokens_per_task']} tokens a problem |",
        "|---|---|---|",
        f"| after | {told(report['search']['after'])} | {report['search']['after']['tokens_per_task']} tokens a problem |",
        "",
        *_question(report["question"]),
        f"{report['seconds']:.0f} seconds, {report['peak_memory_mb']} MB at most, on {report['threads']} thread(s). "
        "Traces: `traces.sqlite`, `traces.csv`. Adapters: `adapters/`.",
        "",
    ]
    return "\n".join(lines)


def _round_row(r: dict[str, Any]) -> str:
    state = "promoted" if r["promoted"] else "rejected"
    p = "" if r["p_value"] is None else f"{r['p_value']:.2g}"
    phases = ", ".join(f"{name} {seconds:.0f}" for name, seconds in r["phases"].items())
    return f"| {r['round']} | {told(r)} | {r['gained']} / {r['lost']} | {p} | {state} | {r['rows']} | {r['pairs']} | {phases} |"


def _question(question: dict[str, Any] | None) -> list[str]:
    if question is None:
        return []
    return [
        f"## {question['prompt']}",
        "",
        "Before:",
        "",
        "```",
        question["before"]["text"],
        "```",
        "",
        "After:",
        "",
        "```",
        question["after"]["text"],
        "```",
        "",
    ]


def draw_accuracy(report: dict[str, Any], path: Path) -> None:
    """Left: the report split by level. Right: the gate split by round, what was promoted filled."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (by_level, by_round) = pyplot.subplots(1, 2, figsize=(10, 4), width_ratios=(3, 2))
    split = report["report"]
    names = ["all", *sorted(split["before"]["by_level"])]
    for i, key in enumerate(NAMES):
        records = [split[key], *(split[key]["by_level"][name] for name in names[1:])]
        _bars(by_level, [x + (i - 1) * 0.27 for x in range(len(names))], records, COLOURS[key], NAMES[key])
    by_level.set_xticks(range(len(names)), ["all", *(f"level {name}" for name in names[1:])])
    by_level.set_title(f"{split['before']['n']} held-out problems, greedy, no search", fontsize=10)
    by_level.legend(fontsize=8, frameon=False, loc="upper right")
    _staircase(by_round, [{"round": 0, **report["baseline"]}, *report["rounds"]])
    for axes in (by_level, by_round):
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _staircase(axes: Any, rounds: Sequence[dict[str, Any]]) -> None:
    places, heights = [r["round"] for r in rounds], [r["accuracy"] for r in rounds]
    axes.errorbar(places, heights, yerr=_errors(rounds), color=COLOURS["after"], marker="o", capsize=3)
    for r in rounds[1:]:
        state = "promoted" if r["promoted"] else "rejected"
        axes.annotate(state, (r["round"], r["interval"][0]), (0, -14), textcoords="offset points", ha="center", fontsize=8)
    axes.set_xticks(places, ["baseline", *(f"round {r['round']}" for r in rounds[1:])])
    axes.margins(x=0.12)
    axes.set_title("candidates on the gate split", fontsize=10)


def _bars(axes: Any, places: Sequence[float], records: Sequence[dict[str, Any]], colour: str, label: str) -> None:
    axes.bar(places, [r["accuracy"] for r in records], 0.25, yerr=_errors(records), color=colour, label=label, capsize=2)


def _errors(records: Sequence[dict[str, Any]]) -> list[list[float]]:
    return [[r["accuracy"] - r["interval"][0] for r in records], [r["interval"][1] - r["accuracy"] for r in records]]


def seeds_page(reports: Sequence[dict[str, Any]]) -> str:
    """One row a seed."""
    lines = [
        "| seed | before | forced to write steps | after | promotions | search before | search after | seconds | MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in reports:
        shares = " | ".join(told(r["report"][key]) for key in NAMES)
        search = " | ".join(told(r["search"][when]) for when in ("before", "after"))
        lines.append(f"| {r['seed']} | {shares} | {r['promotions']} | {search} | {r['seconds']:.0f} | {r['peak_memory_mb']} |")
    return "\n".join(lines) + "\n"
