"""The commands that stand in files of their own: their options are here, and the files are imported when they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

DRAWS = 5


def add_commands(commands: Any) -> None:
    """`ratchet audit` and `ratchet train-values`, among the commands of the command line."""
    _add_audit(commands)
    _add_train_values(commands)


def _add_audit(commands: Any) -> None:
    audit = commands.add_parser("audit", help="what each verifier gets wrong: false PASS, false FAIL, abstentions, speed")
    audit.add_argument("--verifier", action="append", metavar="NAME", help="only this one; can be given several times")
    audit.add_argument(
        "--cases", type=Path, action="append", metavar="FILE", help="your own cases (JSON lines) in place of those that ship"
    )
    audit.add_argument("--draws", type=int, default=DRAWS, help="tasks of each level from each generator (default: %(default)s)")
    audit.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    audit.add_argument("--json", type=Path, metavar="FILE", help="write the table and every mistake there")
    audit.add_argument("--rescore", type=Path, metavar="LOG_DIR", help="judge the stored traces there again instead; old verdicts are kept")
    audit.add_argument("--dry-run", action="store_true", help="with --rescore: list the changes and write nothing")
    audit.set_defaults(command=_audit)


def _add_train_values(commands: Any) -> None:
    values = commands.add_parser("train-values", help="learn from finished search trees how promising a step is")
    values.add_argument("--log-dir", type=Path, default=Path("./logs"), help="where the runs are (default: %(default)s)")
    values.add_argument("--out", type=Path, required=True, help="folder for the weights; name it in PROCESS_REWARD to use them")
    values.add_argument("--guided", action="store_true", help="learn also from runs that a process reward guided")
    values.add_argument("--seed", type=int, default=0)
    values.set_defaults(command=_train_values)


def _audit(args: argparse.Namespace) -> int:
    from core.apps.audit import run

    return run(args)


def _train_values(args: argparse.Namespace) -> int:
    from core.apps.values import run

    return run(args)
