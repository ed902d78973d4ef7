"""What a loop leaves to read: a page for each round, a page and a picture for all of them. Everything comes from the rounds' states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.slots import replace_file
from core.types import Split

PAGE, REPORT, PICTURE = "round.md", "report.md", "rounds.png"
SERVED, REFUSED = "#2a7f62", "#b5533c"

Steps = Mapping[str, Any]


def write_round(folder: Path, number: int, steps: Steps, plan: Mapping[str, Any]) -> None:
    """`folder/round.md`."""
    replace_file(folder / PAGE, "\n".join(_round_page(number, steps, plan)) + "\n")


def write_report(folder: Path, rounds: Sequence[Steps], plan: Mapping[str, Any]) -> None:
    """`folder/report.md` and the picture beside it."""
    _draw(rounds, folder / PICTURE)
    replace_file(folder / REPORT, "\n".join(_report_page(rounds, plan)) + "\n")


def outcome(steps: Steps) -> str:
    """What became of a round, in a word or two."""
    if "nothing" in steps.get("build", {}):
        return "nothing to train on"
    gate = steps.get("gate", {})
    return "promoted" if gate.get("promoted") else str(gate.get("verdict", "under way"))


def told(share: Mapping[str, Any]) -> str:
    """`68.1% [65.4%, 70.7%]`."""
    return f"{share['accuracy']:.1%} [{share['low']:.1%}, {share['high']:.1%}]"


def _report_page(rounds: Sequence[Steps], plan: Mapping[str, Any]) -> list[str]:
    lines = [
        f"# {plan['slot']}: {len(rounds)} rounds, {sum(outcome(steps) == 'promoted' for steps in rounds)} promotions",
        "",
        f"![accuracy by round]({PICTURE})",
        "",
        "Accuracy on held-out tasks, greedy, one answer; 95 % intervals in brackets. The gate's tasks decide, the report's tasks never do.",
        "",
        "| round | rows | candidate, gate | champion, gate | gained / lost | p | | candidate, report |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(number, steps) for number, steps in enumerate(rounds, 1)),
        "",
        *(f"Round {number}: {_reason(steps)}. [more](rounds/{number:03d}/{PAGE})\n" for number, steps in enumerate(rounds, 1)),
    ]
    serves = next((steps["swap"]["serves"] for steps in reversed(rounds) if "swap" in steps), plan["base"])
    return [*lines, f"Now `slot:{plan['slot']}` is served by `{serves}`."]


def _line(number: int, steps: Steps) -> str:
    rows = " + ".join(str(made["rows"]) for made in steps.get("build", {}).values() if isinstance(made, Mapping))
    gate, seen = steps.get("gate"), steps.get("evaluate", {})
    if not gate:
        return f"| {number} | {rows} | | | | | {outcome(steps)} | |"
    reported = seen.get(f"candidate {Split.REPORT}")
    return (
        f"| {number} | {rows} | {told(gate['candidate'])} | {told(gate['champion'])} | {gate['gained']} / {gate['lost']} "
        f"| {gate['p_value']:.2g} | {outcome(steps)} | {told(reported) if reported else ''} |"
    )


def _reason(steps: Steps) -> str:
    return str(steps["gate"]["reason"]) if "gate" in steps else str(steps.get("build", {}).get("nothing", "")).split("\n")[0]


def _round_page(number: int, steps: Steps, plan: Mapping[str, Any]) -> list[str]:
    at = datetime.fromtimestamp(steps["at"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [f"# Round {number} of {plan['slot']}: {outcome(steps)}", "", f"{at}. {_reason(steps)}.", ""]
    lines += ["## Collected", "", *_pairs(steps.get("collect", {})), ""]
    for kind, made in steps.get("build", {}).items():
        if isinstance(made, Mapping):
            lines += [f"## {kind}: {made['rows']} rows", "", "| filter | came | dropped |", "|---|---|---|"]
            lines += [f"| {sieve['filter']} | {sieve['came']} | {sieve['dropped']} |" for sieve in made["funnel"] if sieve["dropped"]]
            lines += ["", f"sha256 `{made['sha256']}`", ""]
    if "train" in steps:
        lines += ["## Training", "", "![loss](adapter/loss.png)", ""]
        lines += [
            f"{name}: {', '.join(f'{k} {v:.4g}' for k, v in metrics.items() if isinstance(v, int | float))}\n"
            for name, metrics in steps["train"].items()
            if isinstance(metrics, Mapping)
        ]
    if "gate" in steps:
        lines += _gate(steps)
    lines += ["## Seconds", "", *_pairs({name: values["seconds"] for name, values in steps.items() if isinstance(values, Mapping)})]
    return lines


def _gate(steps: Steps) -> list[str]:
    gate, seen = steps["gate"], steps["evaluate"]
    lines = ["## Held-out tasks", "", "| | worker | gate | report |", "|---|---|---|---|"]
    for who in ("champion", "candidate"):
        shares = [seen.get(f"{who} {split}") for split in (Split.GATE, Split.REPORT)]
        lines.append(f"| {who} | `{seen[who]}` | {' | '.join(told(share) if share else '' for share in shares)} |")
    lines += [
        "",
        f"{gate['gained']} tasks only the candidate solves, {gate['lost']} only the champion; exact one-sided McNemar p = "
        f"{gate['p_value']:.3g}, to be below {gate['alpha']:.3g}; look {gate['look']} of {gate['looks']} at these tasks.",
        "",
    ]
    lines += [f"- {guard['reason']} ({guard['state']})" for guard in gate["guards"]]
    return [*lines, ""]


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"- {name}: {value}" for name, value in values.items()]


def _draw(rounds: Sequence[Steps], path: Path) -> None:
    """Each round's candidate with its interval, filled where it was promoted, and the champion's accuracy as steps behind them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seen = [(number, steps["gate"], outcome(steps) == "promoted") for number, steps in enumerate(rounds, 1) if "gate" in steps]
    figure, axes = pyplot.subplots(figsize=(6, 3.6))
    if seen:
        served = [seen[0][1]["champion"]["accuracy"]]
        for _, gate, promoted in seen:
            served.append(gate["candidate"]["accuracy"] if promoted else served[-1])
        axes.step([0, *(number for number, _, _ in seen)], served, where="post", color=SERVED, alpha=0.5, label="served")
    for number, gate, promoted in seen:
        share = gate["candidate"]
        error = [[share["accuracy"] - share["low"]], [share["high"] - share["accuracy"]]]
        colour = SERVED if promoted else REFUSED
        axes.errorbar(number, share["accuracy"], yerr=error, fmt="o", color=colour, mfc=colour if promoted else "white", capsize=3)
    axes.set_ylim(0, 1)
    axes.set_xticks(range(len(rounds) + 1))
    axes.set_xlabel("round (filled: promoted)")
    axes.set_title("accuracy on the gate's tasks", fontsize=10)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    part = path.with_name(f".{path.name}")
    figure.savefig(part, dpi=120, format="png")
    pyplot.close(figure)
    part.replace(path)
