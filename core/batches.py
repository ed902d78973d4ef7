"""Many questions side by side: as many clients as there may be searches, one progress bar, and what an earlier batch has answered."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from core.attempts import result_of_run
from core.providers.remote import together
from core.types import Model, Result

if TYPE_CHECKING:
    from logs.place import Place

OnResult = Callable[[Result], None]


class Session(ExitStack):
    """What one client tells a model that batches: I am here, wait for my next request.

    It stays open from one task to the next, so that batches don't depend on who is quicker, and is left when the client turns to
    another model, which would wait in vain.
    """

    _model: Model | None = None

    def move_to(self, model: Model) -> None:
        if model is not self._model:
            self.close()
            self._model = model
            self.enter_context(getattr(model, "session", nullcontext)())

    def leave(self) -> None:
        """The next request goes elsewhere."""
        self.close()
        self._model = None


async def answer_all(
    groups: Sequence[Sequence[int]], width: int, answer: Callable[[int, Session], Awaitable[Result]], on_result: OnResult
) -> list[Result]:
    """One result for each number, in their order. Numbers in one group share the answer to the first of them.

    `width` clients are at work, each with the next question as soon as it has answered one, while questions last.
    """
    results: dict[int, Result] = {}
    left = iter(groups)

    async def client() -> None:
        with Session() as session:
            for group in left:
                result = await answer(group[0], session)
                for place in group:
                    results[place] = result
                    on_result(result)

    await together([client() for _ in range(min(width, len(groups)))])
    return [results[place] for place in sorted(results)]


def alike(keys: Iterable[str | None]) -> list[list[int]]:
    """The places of the same key together; None stands alone."""
    groups: dict[object, list[int]] = {}
    for place, key in enumerate(keys):
        groups.setdefault(place if key is None else key, []).append(place)
    return list(groups.values())


def answered(where: str | Path | Place, keys: Iterable[str]) -> dict[str, Result]:
    """What stands in the store for these keys."""
    from logs.lookup import read_finished  # SQLAlchemy costs as much time to import as all the rest

    return {run.key: result_of_run(run) for run in read_finished(where, keys)}


@contextmanager
def watched(total: int, on_result: OnResult | None, *, shown: bool) -> Iterator[OnResult]:
    """A function to call with each result. With `shown` it moves a progress bar on stderr, if that is a terminal."""
    tell = on_result or _ignore
    if not shown or not sys.stderr.isatty():
        yield tell
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress("{task.fields[verified]} verified", *columns, console=Console(stderr=True), transient=True) as progress:
        bar, verified = progress.add_task("", total=total, verified=0), 0

        def advance(result: Result) -> None:
            nonlocal verified
            verified += result.verified
            progress.update(bar, advance=1, verified=verified)
            tell(result)

        yield advance


def _ignore(result: Result) -> None:
    pass
