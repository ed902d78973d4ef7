"""Prompts that begin alike are read once, and nobody's text changes by it."""

import logging

import pytest
import torch
from transformers import (
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from core.providers.engine import Engine, Job
from core.providers.loading import EMBEDDED_DIRECTORY, load
from core.types import Sampling

GREEDY = Sampling(max_tokens=20)
HOT = Sampling(temperature=1.0, max_tokens=20, seed=5)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 160,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
ROUND = {"initializer_range": 0.3, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3}
SHAPES = {
    "llama": (LlamaForCausalLM, LlamaConfig, SMALL),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, SMALL),
    "mistral, all layers sliding": (MistralForCausalLM, MistralConfig, {**SMALL, "sliding_window": 7}),
    "gemma3, most layers sliding": (Gemma3ForCausalLM, Gemma3TextConfig, {**SMALL, "sliding_window": 7, "sliding_window_pattern": 3}),
    "gpt2": (GPT2LMHeadModel, GPT2Config, {"initializer_range": 0.3, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 160}),
    "gpt-neox": (GPTNeoXForCausalLM, GPTNeoXConfig, {**ROUND, "intermediate_size": 48, "max_position_embeddings": 160}),
}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)


def build(shape, tokenizer):
    model, config, options = SHAPES[shape]
    torch.manual_seed(0)
    own = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0, "initializer_range": 0.3}
    return model(config(**{**own, **options})).eval()


@pytest.fixture(scope="module")
def model(tokenizer):
    return build("llama", tokenizer)


def tree(tokenizer, trunk=40):
    """A trunk, two branches of it, and leaves of both; one prompt that has nothing to do with them."""
    rng = torch.Generator().manual_seed(2)

    def some(count):
        return torch.randint(5, len(tokenizer), (count,), generator=rng).tolist()

    root, left, right = some(trunk), some(21), some(33)
    return [root + left + some(3), root + left + some(9), root + right + some(5), root + right, root + some(18), some(30), root + left]


def run(engine, jobs):
    for job in jobs:
        engine.add(job)
    while engine.busy:
        engine.step()
    return [[(c.text, c.finish) for c in job.texts] for job in jobs]


def reads(engine):
    """The shapes of what the model is given from now on."""
    seen, forward = [], engine._forward

    def watched(ids, *others):
        seen.append(tuple(ids.shape))
        return forward(ids, *others)

    engine._forward = watched
    return seen


@pytest.mark.parametrize("shape", SHAPES)
def test_prompts_that_share_beginnings_say_what_they_say_alone(shape, tokenizer):
    model = build(shape, tokenizer)
    prompts = tree(tokenizer)
    alone = [run(Engine(model, tokenizer, prefix_bytes=0), [Job(p, 1, GREEDY)])[0] for p in prompts]
    engine = Engine(model, tokenizer)
    assert engine.prefixes.limit

    together = run(engine, [Job(p, 1, GREEDY) for p in prompts])
    warm = [run(engine, [Job(p, 1, GREEDY)])[0] for p in prompts]

    assert together == warm == alone
    assert len({texts[0] for texts in alone}) > 4  # the prompts matter to this model


def test_the_embedded_model_says_the_same_with_and_without_a_memory():
    model, tokenizer = load("embedded", "cpu")
    asked = [
        tokenizer.apply_chat_template([{"role": "user", "content": f"Solve {a}*6+{b}-(3+{a})*4"}], add_generation_prompt=True)["input_ids"]
        for a in (17, 18)
        for b in (23, 24, 55)
    ]
    begun = [ids + tokenizer("17 * 6 = 102\n", add_special_tokens=False)["input_ids"] for ids in asked]
    plain, sharing = Engine(model, tokenizer, prefix_bytes=0), Engine(model, tokenizer)

    for prompts in (asked, begun, asked + begun):
        for sampling in (GREEDY, HOT):
            jobs = [[Job(ids, 3, sampling) for ids in prompts] for _ in range(2)]
            assert run(sharing, jobs[0]) == run(plain, jobs[1])
    assert sharing.prefixes.bytes > 0


def test_what_prompts_of_one_arrival_share_is_read_once(model, tokenizer):
    prompts = [[*tree(tokenizer)[0][:40], 10 + i, 50 + i, 9] for i in range(16)]
    engine = Engine(model, tokenizer)
    seen = reads(engine)

    run(engine, [Job(p, 1, GREEDY.replace(max_tokens=1)) for p in prompts])

    assert seen == [(1, 40), (16, 3)]


def test_the_next_step_of_a_search_reads_its_new_tokens_only(model, tokenizer):
    prompt = tree(tokenizer)[0]
    engine = Engine(model, tokenizer)
    run(engine, [Job(prompt, 4, HOT)])
    seen = reads(engine)

    run(engine, [Job([*prompt, 7, 8, 9], 4, HOT.replace(max_tokens=2))])

    assert seen == [(1, 3), (4, 1)]


def test_padding_never_reaches_beyond_a_table_of_positions(tokenizer):
    model = build("gpt2", tokenizer)
    rng = torch.Generator().manual_seed(3)
    long = torch.randint(5, len(tokenizer), (150,), generator=rng).tolist()
    prompts = [[*long, 7], long[:20] + [9] * 60]
    alone = [run(Engine(model, tokenizer, prefix_bytes=0), [Job(p, 1, GREEDY)])[0] for p in prompts]
    engine = Engine(model, tokenizer)
    run(engine, [Job(long, 1, GREEDY)])

    assert run(engine, [Job(p, 1, GREEDY) for p in prompts]) == alone


@pytest.mark.parametrize("limit", [1, 20_000, 60_000])
def test_a_memory_that_is_too_small_costs_time_and_never_a_text(model, tokenizer, limit):
    prompts = tree(tokenizer)
    expected = run(Engine(model, tokenizer, prefix_bytes=0), [Job(p, 2, HOT) for p in prompts])
    engine = Engine(model, tokenizer, prefix_bytes=limit)

    for _ in range(3):
        assert run(engine, [Job(p, 2, HOT) for p in prompts]) == expected
        assert engine.prefixes.bytes <= limit


def test_a_model_that_can_not_go_on_half_way_is_served_without_sharing_and_that_is_said_once(tokenizer, caplog):
    model = build("llama", tokenizer)
    forward = model.forward

    def half(ids, position_ids=None, **options):
        if position_ids is not None and ids.shape[1] > 1:
            raise ValueError("no such thing")
        return forward(ids, position_ids=position_ids, **options)

    prompts = tree(tokenizer)
    expected = run(Engine(model, tokenizer), [Job(p, 1, GREEDY) for p in prompts])
    model.forward = half
    with caplog.at_level(logging.WARNING):
        engine = Engine(model, tokenizer)
        got = run(engine, [Job(p, 1, GREEDY) for p in prompts])

    assert got == expected
    assert [record.message for record in caplog.records] == [
        "LlamaForCausalLM can't go on from what it has read (no such thing): prompts that begin alike are read one by one"
    ]


def test_a_dropped_job_leaves_its_rows_to_others_and_no_trace_in_their_text(model, tokenizer):
    prompts = tree(tokenizer)
    expected = run(Engine(model, tokenizer), [Job(p, 2, HOT) for p in prompts])
    engine = Engine(model, tokenizer, rows=6)
    doomed, jobs = Job(prompts[0], 3, HOT.replace(max_tokens=90)), [Job(p, 2, HOT) for p in prompts]
    for job in (jobs[0], doomed, *jobs[1:]):
        engine.add(job)
    engine.step()
    engine.step()

    engine.drop(doomed)
    engine.drop(doomed)
    while engine.busy:
        engine.step()

    assert [[(c.text, c.finish) for c in job.texts] for job in jobs] == expected
    assert not doomed.done


def test_rows_wait_for_the_memory_that_they_need(model, tokenizer):
    prompts = tree(tokenizer)
    expected = run(Engine(model, tokenizer), [Job(p, 2, HOT) for p in prompts])
    engine, most = Engine(model, tokenizer), 0
    engine._memory = 0
    for prompt in prompts:
        engine.add(Job(prompt, 2, HOT))
    jobs = list(engine._queue)
    while engine.busy:
        engine.step()
        most = max(most, len(engine._rows))

    assert most == 2
    assert [[(c.text, c.finish) for c in job.texts] for job in jobs] == expected
