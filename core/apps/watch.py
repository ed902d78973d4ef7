"""A search on the terminal as it happens, one line an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core.search.events import Event

SHOWN = 90


def line(event: Event) -> str:
    """What an event says, on one line."""
    where = event.path or "root"
    data: Any = event.data
    if event.kind == "ask":
        what = "a reflection" if data["reflect"] else f"{data['n']} {'whole answers' if data['whole'] else 'steps'}"
        return f"ask      {where}: {what}"
    if event.kind == "tell":
        texts = [" ".join(child["text"].split()) for child in data["children"]]
        return f"tell     {where}: {_short(' | '.join(texts))}"
    if event.kind == "verdict":
        return f"verdict  {where}: {data['outcome']}" + (f", worth {data['value']:.2f}" if data["value"] is not None else "")
    if event.kind in ("fail", "guard", "stop"):
        return f"{event.kind:<8} {data['reason']}"
    return f"{event.kind:<8} {where}"


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
