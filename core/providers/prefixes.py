"""What was read once and need not be read again: keys and values of prompts in a radix tree over their token ids.

After RadixAttention (Zheng et al., 2024, SGLang). Each set of weights has a tree of its own. The least recently used leaves go first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from core.providers.slots import Stretch

Ids = list[int]


@dataclass(slots=True, eq=False)
class Node:
    """The tokens on the way from its parent, from position `start` on, and what the model remembers of them."""

    tokens: tuple[int, ...]
    start: int
    stretch: Stretch
    parent: Node | None
    used: int = 0
    children: dict[int, Node] = field(default_factory=dict)
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.bytes = sum(keys.nbytes + values.nbytes for keys, values in self.stretch)

    @property
    def end(self) -> int:
        """The position after its last token."""
        return self.start + len(self.tokens)


class PrefixCache:
    """At most `limit` bytes. Not safe to use from two threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._roots: dict[str | None, Node] = {}
        self._nodes: set[Node] = set()
        self._clock = 0

    def match(self, weights: str | None, prompt: Sequence[int], most: int) -> tuple[list[tuple[Node, int]], int]:
        """The longest known beginning of at most `most` tokens: its nodes, each with the tokens of it that count, and its length."""
        node, path, length = self._roots.get(weights), [], 0
        most = min(most, len(prompt))
        self._clock += 1
        while node is not None and length < most and (child := node.children.get(prompt[length])) is not None:
            child.used = self._clock
            same = min(common(child.tokens, prompt[length : length + len(child.tokens)]), most - length)
            path.append((child, same))
            length += same
            node = child if same == len(child.tokens) else None
        return path, length

    def insert(self, weights: str | None, prompt: Ids, read: Callable[[int, int], Stretch]) -> None:
        """Remember a prompt; `read(start, end)` gives the keys and values of the part that is not known yet."""
        if not self.limit:
            return
        root = self._roots.setdefault(weights, Node((), 0, [], None))
        path, length = self.match(weights, prompt, len(prompt))
        if length == len(prompt):
            return
        parent = root
        if path:
            parent, same = path[-1]
            if same < len(parent.tokens):
                parent = self._split(parent, same)
        self._add(Node(tuple(prompt[length:]), length, read(length, len(prompt)), parent, self._clock))
        self._shrink()

    def forget(self, weights: str | None) -> None:
        """Those weights are not served any more."""
        if root := self._roots.pop(weights, None):
            todo = [*root.children.values()]
            while todo:
                node = todo.pop()
                todo += node.children.values()
                self._nodes.discard(node)
                self.bytes -= node.bytes

    def clear(self) -> None:
        """Forget all."""
        for weights in list(self._roots):
            self.forget(weights)

    def _add(self, node: Node) -> None:
        assert node.parent is not None
        node.parent.children[node.tokens[0]] = node
        self._nodes.add(node)
        self.bytes += node.bytes

    def _remove(self, node: Node) -> None:
        assert node.parent is not None
        del node.parent.children[node.tokens[0]]
        self._nodes.discard(node)
        self.bytes -= node.bytes

    def _split(self, node: Node, at: int) -> Node:
        """The first part of a node, now the parent of the rest. Both are copies: a view would keep the whole alive."""
        assert node.parent is not None
        self._remove(node)
        first = Node(
            node.tokens[:at], node.start, [(k[:, :at].clone(), v[:, :at].clone()) for k, v in node.stretch], node.parent, node.used
        )
        rest = Node(node.tokens[at:], first.end, [(k[:, at:].clone(), v[:, at:].clone()) for k, v in node.stretch], first, node.used)
        rest.children = node.children
        for child in rest.children.values():
            child.parent = rest
        self._add(first)
        self._add(rest)
        return first

    def _shrink(self) -> None:
        """An eighth more than must be, so that a full cache is not sorted at every prompt."""
        if self.bytes <= self.limit:
            return
        while self._nodes and self.bytes > self.limit * 7 // 8:
            for node in sorted((n for n in self._nodes if not n.children), key=lambda n: (n.used, -n.start, n.tokens)):
                self._remove(node)
                if self.bytes <= self.limit * 7 // 8:
                    break


def stems(prompts: Sequence[Ids], least: int, known: Callable[[Ids], int]) -> list[Ids]:
    """Beginnings that several of these prompts share and that bring `least` tokens more than is known, short ones first."""
    found: list[Ids] = []
    todo = [(sorted(prompts), 0)]
    while todo:
        group, depth = todo.pop()
        if len(group) < 2:
            continue
        shared = min(common(group[0], group[-1]), len(group[0]) - 1)  # one token must be left to be read
        if shared - max(depth, known(group[0][:shared])) >= least:
            found.append(group[0][:shared])
            depth = shared
        parts = [list(part) for _, part in groupby(group, key=lambda prompt: prompt[shared : shared + 1])]
        todo += [(part, depth) for part in (parts if len(parts) > 1 else [group[1:]])]
    return sorted(found, key=lambda stem: (len(stem), stem))


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    most = min(len(a), len(b))
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), most)
