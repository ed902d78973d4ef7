"""`ratchet corpus build | search`: the documents that factual answers are checked against."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_corpus(commands: Any) -> None:
    """The command's options."""
    corpus = commands.add_parser("corpus", help="documents that factual answers are checked against")
    actions = corpus.add_subparsers(required=True, metavar="ACTION")
    build = actions.add_parser("build", help="index documents; a second time only what has changed")
    build.add_argument("documents", type=Path, help="a folder of texts, a text, JSON lines or CSV file, or an SQLite file")
    build.add_argument("index", type=Path, help="the file to write; name it in CORPUS")
    build.add_argument("--table", help="of an SQLite file")
    build.add_argument("--column", default="text", help="where rows hold their text (default: %(default)s)")
    build.add_argument("--key", help="the column that names a row")
    build.set_defaults(command=_build)
    search = actions.add_parser("search", help="passages that match words")
    search.add_argument("index", type=Path)
    search.add_argument("query")
    search.add_argument("-k", type=int, default=5, help="how many (default: %(default)s)")
    search.set_defaults(command=_search)


def _build(args: argparse.Namespace) -> int:
    from core.corpus import build

    built = build(args.documents, args.index, table=args.table, column=args.column, key=args.key)
    print(f"{args.index}: {built.documents} documents, {built.passages} passages; {built.unchanged} unchanged, {built.skipped} skipped")
    return 0


def _search(args: argparse.Namespace) -> int:
    from core.corpus import Corpus

    with Corpus.open(args.index) as corpus:
        for passage in corpus.search(args.query, args.k):
            print(f"{passage.source} [{passage.start}:{passage.end}]  {passage.text}")
    return 0
