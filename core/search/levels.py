"""Level by level: at each depth keep the best nodes and spend a planned share of the budget on them.

The widths follow from the budget: few samples at the root, where little can be told apart, more the deeper it goes. What is left at the
end of the schedule goes to tree search over the same tree. `beam` is the same with a constant width and nothing left over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import median

from core.search.lats import Lats
from core.search.tree import Node, Plan, Ticket

FIRST_SHARE, LAST_SHARE = 1.0, 2.0  # how the samples of the first and the last level compare
FIRST_KEPT, LAST_KEPT, KEPT_POWER = 0.071, 0.142, 0.8  # nodes kept after the first and the last but one level: a share of budget ** power
PROBED = 96  # one whole answer in so many samples is spent to learn how long answers are
PORTIONS = 2  # a node's share is asked for in so many parts, so that one which only repeats itself can be left
UNKNOWN = 4  # steps to an answer, where none was seen yet


class Levels(Lats):
    """The policy. Its budget is `calls * width` step samples."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._budget = plan.calls * plan.width
        self._spent = 0
        self._level = 0
        self._kept = [self.root]
        self._next_best: deque[Node] = deque()
        self._queue: deque[tuple[Node, int]] = deque()
        self._rest: dict[str, int] = {}
        self._spare = 0
        self._probe = plan.horizon is None
        self._lengths: list[int] = []
        self._each = 0
        self._finished = False

    def choose(self) -> Ticket | None:
        """A probe to learn how long answers are, then the expansions of this level, then the next level, then tree search."""
        if self._probe:
            self._probe = False
            probes = max(1, min(self.plan.width, self._budget // PROBED))
            self._spent += probes
            return self.whole(self.root, probes)
        if not self._queue and not self._finished:
            if self.flying:
                return None
            self._next_level()
        if self._queue:
            node, n = self._queue.popleft()
            first = min(n, max(self.plan.width, -(-n // PORTIONS)))
            self._rest[node.path] = n - first
            return self.step(node, first)
        return super().choose() if self.tail else None

    @property
    def tail(self) -> bool:
        """Whether what is left of the calls goes to tree search."""
        return True

    def learn(self, node: Node, ticket: Ticket, fresh: Sequence[Node]) -> None:
        """How many steps the answers have."""
        if rest := self._rest.pop(node.path, 0):
            self._spend(node, rest, bool(fresh))
        self._lengths += [node.depth + max(child.text.strip().count("\n") + 1, 1) for child in fresh if child.terminal]
        if self._finished:
            super().learn(node, ticket, fresh)

    def schedule(self, nodes: int) -> tuple[int, int]:
        """(nodes to keep, samples for all of them) at this level, of so many that there are."""
        levels = max(self._horizon() - self._level, 1)
        left = max(self._budget - self._spent, 0)
        here, last = self._share(self._level), [self._share(self._level + i) for i in range(levels)]
        samples = round(left * here / sum(last))
        share = self._between(FIRST_KEPT, LAST_KEPT, self._level - 1, self._horizon() - 2)
        kept = 1 if self._level == 0 else round(share * self._budget**KEPT_POWER)
        affordable = max((self.calls_left - levels + 1) // levels, 1) if self._level else 1
        return max(min(kept, affordable, nodes), 1), samples

    def _spend(self, node: Node, rest: int, fruitful: bool) -> None:
        """The rest of a node's share; when it only repeats itself, that goes to the next best node of the level."""
        if fruitful:
            self._queue.append((node, rest))
            return
        self._spare += rest
        if self._next_best and self._spare >= self._each:
            self._spare -= self._each
            other = self._next_best.popleft()
            self._kept.append(other)
            self._queue.append((other, self._each))

    def _next_level(self) -> None:
        self._spent -= self._spare
        self._spare = 0
        found = self._kept if self._level == 0 else [c for node in self._kept for c in node.children if not c.closed]
        if not found or self._budget <= self._spent or self._level >= self.plan.depth:
            self._finished = True
            return
        keep, samples = self.schedule(len(found))
        ranked = sorted(found, key=lambda node: (-node.value, node.path.count("."), node.path))
        self._kept = ranked[:keep]
        self._next_best = deque(ranked[keep:])
        self.remarks += [("cut", node.path) for node in ranked[keep:]]
        each, rest = divmod(max(samples, len(self._kept)), len(self._kept))
        self._each = each
        self._queue.extend((node, each + (i < rest)) for i, node in enumerate(self._kept))
        self._spent += sum(n for _, n in self._queue)
        self._level += 1

    def _horizon(self) -> int:
        if self.plan.horizon is not None:
            return self.plan.horizon
        seen = round(median(self._lengths)) if self._lengths else UNKNOWN
        return max(min(seen, self.plan.depth), self._level + 1)

    def _share(self, level: int) -> float:
        return self._between(FIRST_SHARE, LAST_SHARE, level, self._horizon() - 1)

    @staticmethod
    def _between(first: float, last: float, place: int, places: int) -> float:
        return last if places <= 0 else first + (last - first) * min(place / places, 1.0)


class Beam(Levels):
    """At each depth the `width` best nodes, each expanded `width` ways."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._probe = False

    @property
    def tail(self) -> bool:
        """A beam ends where it ends."""
        return False

    def schedule(self, nodes: int) -> tuple[int, int]:
        """The same at every level."""
        keep = min(self.plan.width, nodes, max(self.calls_left, 1))
        return keep, keep * self.plan.width
