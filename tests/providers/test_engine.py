import pytest
import torch
from transformers import (
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from core.errors import ProviderError
from core.providers.draw import Drawn, draw, nucleus, uniform
from core.providers.engine import Engine, Job, _Row
from core.providers.local import EMBEDDED_DIRECTORY
from core.types import Sampling

GREEDY = Sampling(max_tokens=24)
HOT = Sampling(temperature=1.0, max_tokens=24, seed=5)
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
SHAPES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {}),
    "mistral, all layers sliding": (MistralConfig, MistralForCausalLM, {"sliding_window": 7}),
    "gemma2, every other layer sliding": (Gemma2Config, Gemma2ForCausalLM, {"sliding_window": 7}),
    "gemma3, most layers sliding": (Gemma3TextConfig, Gemma3ForCausalLM, {"sliding_window": 7, "sliding_window_pattern": 3}),
}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(EMBEDDED_DIRECTORY)


def build(shape, tokenizer, seed=0):
    config, model, options = SHAPES[shape]
    torch.manual_seed(seed)
    # wide initial weights: with the usual ones a random model repeats a single token whatever it reads
    return model(config(vocab_size=len(tokenizer), initializer_range=0.3, **SMALL, **options)).eval()


@pytest.fixture(scope="module")
def model(tokenizer):
    return build("llama", tokenizer)


def prompts(tokenizer, count=6):
    """Of different lengths, some longer than the sliding windows."""
    rng = torch.Generator().manual_seed(1)
    return [torch.randint(5, len(tokenizer), (2 + 5 * i,), generator=rng).tolist() for i in range(count)]


def run(engine, *jobs):
    for job in jobs:
        engine.add(job)
    while engine.busy:
        engine.step()
    return [[(c.text, c.finish) for c in job.texts] for job in jobs]


def generated(model, tokenizer, prompt, tokens=24):
    ids = torch.tensor([prompt])
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
    # after the token before, as the engine does it: random tokens may split a character between prompt and answer
    known, told = (tokenizer.decode(ids, skip_special_tokens=True) for ids in (prompt[-1:], out[0, len(prompt) - 1 :]))
    return told[len(known) :]


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_text_is_that_of_generate_in_one_batch_of_prompts_of_different_lengths(shape, tokenizer):
    model = build(shape, tokenizer)
    asked = prompts(tokenizer)

    got = run(Engine(model, tokenizer, rows=8), *(Job(prompt, 1, GREEDY) for prompt in asked))

    assert [texts[0][0] for texts in got] == [generated(model, tokenizer, prompt) for prompt in asked]
    assert len({texts[0][0] for texts in got}) > 3  # the prompts matter to this model


def test_rows_join_and_leave_half_way_without_a_trace_in_each_others_text(model, tokenizer):
    asked = prompts(tokenizer)
    limits = [3, 24, 9, 17, 5, 24]
    alone = [run(Engine(model, tokenizer, rows=8), Job(p, 2, HOT.replace(max_tokens=n)))[0] for p, n in zip(asked, limits, strict=True)]

    engine = Engine(model, tokenizer, rows=5)
    jobs = [Job(prompt, 2, HOT.replace(max_tokens=limit)) for prompt, limit in zip(asked, limits, strict=True)]
    for job in jobs:
        engine.add(job)
        engine.step()
        engine.step()
    while engine.busy:
        engine.step()

    assert [[(c.text, c.finish) for c in job.texts] for job in jobs] == alone


def test_a_sampled_job_says_the_same_alone_and_in_a_full_batch(model, tokenizer):
    job, *others = prompts(tokenizer)
    nucleus = HOT.replace(top_p=0.5, seed=9)

    alone = run(Engine(model, tokenizer), Job(job, 3, HOT))[0]
    among = run(Engine(model, tokenizer), *(Job(p, 3, nucleus) for p in others), Job(job, 3, HOT))[-1]

    assert among == alone


def test_the_samples_of_a_job_differ_and_the_seed_decides_them(model, tokenizer):
    prompt = prompts(tokenizer)[2]

    first, again = (run(Engine(model, tokenizer), Job(prompt, 4, HOT))[0] for _ in range(2))
    other = run(Engine(model, tokenizer), Job(prompt, 4, HOT.replace(seed=6)))[0]

    assert first == again
    assert len(set(first)) == 4
    assert not set(first) & set(other)


def test_samples_are_numbered_through_the_jobs_of_a_split_request(model, tokenizer):
    prompt = prompts(tokenizer)[2]
    engine = Engine(model, tokenizer, rows=4)

    whole = run(engine, Job(prompt, 4, HOT))[0]
    halves = run(engine, Job(prompt, 2, HOT), Job(prompt, 2, HOT, first=2))

    assert halves[0] + halves[1] == whole


def test_the_samples_of_a_job_share_one_prefill(model, tokenizer):
    read = []
    handle = model.register_forward_pre_hook(lambda _, args: read.append(tuple(args[0].shape)))
    engine = Engine(model, tokenizer)
    read.clear()

    run(engine, Job(prompts(tokenizer)[3], 5, HOT.replace(max_tokens=2)))
    handle.remove()

    assert read == [(1, 17), (5, 1)]


def test_long_prompts_are_read_in_several_passes(model, tokenizer, monkeypatch):
    monkeypatch.setattr("core.providers.engine.PREFILL_TOKENS", 30)
    asked = prompts(tokenizer)
    expected = [generated(model, tokenizer, prompt) for prompt in asked]

    got = run(Engine(model, tokenizer, rows=8), *(Job(prompt, 1, GREEDY) for prompt in asked))

    assert [texts[0][0] for texts in got] == expected


def test_a_stop_string_ends_a_row_and_stays_with_the_whole_token_that_completes_it(model, tokenizer):
    prompt = prompts(tokenizer)[4]
    free = run(Engine(model, tokenizer), Job(prompt, 1, HOT))[0][0][0]
    stop = free[len(free) // 2 : len(free) // 2 + 2]

    text, finish = run(Engine(model, tokenizer), Job(prompt, 1, HOT.replace(stop=("\n\n\n", stop))))[0][0]

    assert finish == "stop"
    assert stop in text
    assert free.startswith(text)
    assert stop not in text[: text.index(stop) + len(stop) - 1]
    assert len(text) - text.index(stop) - len(stop) < max(len(piece) for piece in tokenizer.get_vocab())


def test_a_stop_string_of_several_bytes_is_found(model, tokenizer):
    engine = Engine(model, tokenizer)
    ids = tokenizer("2。3", add_special_tokens=False)["input_ids"]
    row = _Row(Job([7], 1, HOT.replace(stop=("。",))), 0, 0, 99)

    ends = [engine._finish(row, token) for token in ids]

    assert ends.index("stop") == len(ids) - 2


def test_a_banned_start_is_never_the_first_token_and_may_come_later(tokenizer, model):
    prompt = prompts(tokenizer)[1]
    favourite = Job(prompt, 1, GREEDY)
    run(Engine(model, tokenizer), favourite)
    logits = model(torch.tensor([prompt])).logits[0, -1]
    first, second = logits.topk(2).indices.tolist()

    job = Job(prompt, 1, GREEDY, banned=first)
    run(Engine(model, tokenizer), job)

    assert favourite.texts[0].text.startswith(tokenizer.decode([first]))
    assert job.texts[0].text.startswith(tokenizer.decode([second]))


def test_the_token_limit_and_the_context_end_a_row_with_length(model, tokenizer):
    engine = Engine(model, tokenizer)
    short, long = Job([7] * 10, 1, Sampling(max_tokens=3)), Job([7] * 120, 1, Sampling(max_tokens=50))
    run(engine, short, long)

    assert (short.completion_tokens, short.texts[0].finish) == (3, "length")
    assert (long.completion_tokens, long.texts[0].finish) == (8, "length")


def test_an_end_token_of_the_models_generation_config_ends_a_row_and_is_not_in_the_text(tokenizer):
    model = build("llama", tokenizer)
    prompt = prompts(tokenizer)[1]
    logits = model(torch.tensor([prompt])).logits[0, -1]
    model.generation_config.eos_token_id = [1, int(logits.argmax())]

    job = Job(prompt, 1, GREEDY)
    run(Engine(model, tokenizer), job)

    assert (job.texts[0].text, job.texts[0].finish, job.completion_tokens) == ("", "end", 1)


@pytest.mark.parametrize(("n", "length"), [(9, 4), (1, 0), (1, 128), (1, 500)])
def test_a_job_that_can_never_be_served_is_refused(model, tokenizer, n, length):
    with pytest.raises(ValueError, match="at most 8 rows and 128 tokens"):
        Engine(model, tokenizer, rows=8).add(Job([7] * length, n, GREEDY))


def test_a_model_without_attention_is_refused_in_words(tokenizer):
    tiny = MambaForCausalLM(MambaConfig(vocab_size=len(tokenizer), hidden_size=16, state_size=4, num_hidden_layers=1))

    with pytest.raises(ProviderError, match=r"mamba models can't be decoded in process .*: serve it with Ollama"):
        Engine(tiny, tokenizer)


def test_a_model_that_does_not_take_positions_is_refused_in_words(tokenizer):
    tiny = BloomForCausalLM(BloomConfig(vocab_size=len(tokenizer), hidden_size=16, n_layer=1, n_head=2))

    with pytest.raises(ProviderError, match=r"BloomForCausalLM can't be decoded in process .*: serve it with Ollama"):
        Engine(tiny, tokenizer)


def test_a_model_that_decodes_otherwise_with_a_cache_than_without_is_refused(tokenizer):
    tiny = build("llama", tokenizer)
    forward = tiny.forward

    def forgetful(ids, position_ids=None, **options):
        return forward(ids, position_ids=None if position_ids is None else position_ids * 0, **options)

    tiny.forward = forgetful

    with pytest.raises(ProviderError, match="does not decode in process as it should"):
        Engine(tiny, tokenizer)


def test_the_nucleus_is_the_smallest_set_that_holds_top_p():
    probabilities = torch.tensor([[0.125, 0.5, 0.375]] * 4)

    kept = nucleus(probabilities.clone(), [0.5, 0.6, 1.0, 0.0])

    assert (kept > 0).tolist() == [[False, True, False], [False, True, True], [True, True, True], [False, True, False]]


def test_draws_follow_the_probabilities():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().expand(6_000, 3)
    wishes = [Drawn(1.0, 1.0, uniform(seed, 0)) for seed in range(6_000)]

    tokens, logprobs = draw(logits, wishes)

    shares = torch.bincount(tokens, minlength=3) / len(wishes)
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    assert logprobs.exp().tolist() == pytest.approx([[0.5, 0.3, 0.2][t] for t in tokens.tolist()])
