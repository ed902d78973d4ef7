import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.providers.prefixes import PrefixCache, common, stems

LAYERS = 2
EACH = LAYERS * 2 * 3 * 4  # bytes of one position: keys and values of one head of size 3


def reader(prompt):
    """Stands for a slot: the value at each position says which tokens lead there."""

    def read(start, end):
        states = torch.tensor([[hash(tuple(prompt[: i + 1])) % 9973] * 3 for i in range(start, end)], dtype=torch.float32)
        return [(states[None].clone(), -states[None]) for _ in range(LAYERS)]

    return read


def remembered(cache, prompt, most=10_000, weights=None):
    """The values of the known beginning of a prompt, and its length."""
    path, length = cache.match(weights, prompt, most)
    parts = [node.stretch[0][0][0, :count, 0] for node, count in path]
    return (torch.cat(parts).tolist() if parts else []), length


def expected(prompt, length):
    return [float(hash(tuple(prompt[: i + 1])) % 9973) for i in range(length)]


def test_a_prompt_that_goes_on_from_another_finds_all_of_it():
    cache = PrefixCache(1 << 20)
    cache.insert(None, [1, 2, 3], reader([1, 2, 3]))

    assert remembered(cache, [1, 2, 3, 4, 5]) == (expected([1, 2, 3], 3), 3)
    assert remembered(cache, [1, 2, 9]) == (expected([1, 2], 2), 2)
    assert remembered(cache, [1, 2, 3, 4], most=2) == (expected([1, 2], 2), 2)
    assert remembered(cache, [2, 2]) == ([], 0)


def test_only_what_is_new_is_read():
    cache, asked = PrefixCache(1 << 20), []
    for prompt in ([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 7], [1, 2, 3, 4, 5, 6]):

        def read(start, end, prompt=prompt):
            asked.append((start, end))
            return reader(prompt)(start, end)

        cache.insert(None, prompt, read)

    assert asked == [(0, 4), (2, 3), (4, 6)]
    assert cache.bytes == 7 * EACH


def test_each_set_of_weights_has_its_own_memory():
    cache = PrefixCache(1 << 20)
    cache.insert("a", [1, 2, 3], reader([1, 2, 3]))

    assert remembered(cache, [1, 2, 3], weights="b") == ([], 0)
    cache.insert("b", [1, 2], reader([1, 2]))
    cache.forget("a")

    assert remembered(cache, [1, 2, 3], weights="a") == ([], 0)
    assert remembered(cache, [1, 2, 3], weights="b")[1] == 2
    assert cache.bytes == 2 * EACH


def test_the_least_recently_used_leaves_go_first_and_trunks_last():
    cache = PrefixCache(10 * EACH)
    cache.insert(None, [1, 2, 3, 4, 5], reader([1, 2, 3, 4, 5]))
    cache.insert(None, [1, 2, 3, 6, 7], reader([1, 2, 3, 6, 7]))
    remembered(cache, [1, 2, 3, 4, 5])
    cache.insert(None, [8, 8, 8, 8], reader([8, 8, 8, 8]))

    assert remembered(cache, [1, 2, 3, 6, 7])[1] == 3
    assert remembered(cache, [8, 8, 8, 8])[1] == 4
    assert cache.bytes <= cache.limit


def test_a_cache_of_no_bytes_remembers_nothing():
    cache = PrefixCache(0)
    cache.insert(None, [1, 2, 3], reader([1, 2, 3]))

    assert (cache.bytes, remembered(cache, [1, 2, 3])) == (0, ([], 0))


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=9)


@settings(deadline=None, max_examples=150)
@given(st.lists(tokens, max_size=25), st.integers(0, 40))
def test_whatever_is_asked_and_dropped_the_memory_is_right_and_bounded(prompts, limit):
    cache = PrefixCache(limit * EACH)
    for prompt in prompts:
        values, length = remembered(cache, prompt)
        assert values == expected(prompt, length)
        cache.insert(None, prompt, reader(prompt))
        assert cache.bytes <= cache.limit
        assert cache.bytes == sum(node.bytes for node in cache._nodes)
    cache.clear()
    assert (cache.bytes, cache._nodes) == (0, set())


def test_stems_are_what_several_prompts_share_short_ones_first():
    trunk, branch = list(range(20)), list(range(100, 120))
    prompts = [trunk + branch + [1], trunk + branch + [2], [*trunk, 5, 6], [9, 9, 9]]

    assert stems(prompts, 16, lambda ids: 0) == [trunk, trunk + branch]
    assert stems(prompts, 16, lambda ids: 20) == [trunk + branch]
    assert stems(prompts, 21, lambda ids: 0) == [trunk + branch]
    assert stems(prompts[2:], 16, lambda ids: 0) == []


def test_of_equal_prompts_a_last_token_is_left_to_be_read():
    assert stems([[1, 2, 3, 4]] * 3, 2, lambda ids: 0) == [[1, 2, 3]]
    assert stems([[1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 9]], 3, lambda ids: 0) == [[1, 2, 3], [1, 2, 3, 4, 5, 6, 7]]


@settings(deadline=None, max_examples=150)
@given(st.lists(tokens, max_size=12), st.integers(1, 4))
def test_every_stem_begins_two_prompts_and_adds_enough_to_the_stem_before(prompts, least):
    found = stems(prompts, least, lambda ids: 0)

    for stem in found:
        assert sum(prompt[: len(stem)] == stem and len(prompt) >= len(stem) for prompt in prompts) >= 2
        before = max((common(other, stem) for other in found if len(other) < len(stem)), default=0)
        assert len(stem) - before >= least
    random.Random(0).shuffle(prompts)
    assert stems(prompts, least, lambda ids: 0) == found
