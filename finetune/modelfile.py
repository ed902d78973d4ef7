"""What Ollama needs beside the weights: a Go template that writes what the chat template of the training wrote, and the stop words.

A chat template is a Jinja program and can't be translated in general. But most write something before and after each role's text, and
something at the start of an answer: those parts are found by rendering, put into a Go template, and both are compared on conversations of
several shapes. A template that does more is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.errors import AdapterError
from core.types import Record

Turns = list[dict[str, str]]
SYSTEM, USER, ANSWER, NEXT = "zqsystemqz", "zquserqz", "zqanswerqz", "zqnextqz"
CONTEXT = 8_192  # tokens: Ollama reserves memory for all of them


@dataclass(frozen=True, slots=True)
class Turnings(Record):
    """What stands before and after the text of each role. `start` begins a conversation without a system message.

    `system` is None where the template leaves system messages out.
    """

    start: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    opening: str

    def render(self, turns: Turns) -> str:
        """A conversation that ends in a user's turn, and the opening of the answer; a begun answer stays open."""
        parts = [] if any(turn["role"] == "system" for turn in turns) and self.system else [self.start]
        for place, turn in enumerate(turns):
            last = place == len(turns) - 1
            before, after = {"system": self.system or ("", ""), "user": self.user, "assistant": self.assistant}[turn["role"]]
            text = "" if turn["role"] == "system" and not self.system else turn["content"]
            if turn["role"] == "assistant" and last:
                parts.append(self.opening + text)
            else:
                parts.append(before + text + after + (self.opening if last else ""))
        return "".join(parts)

    def go(self) -> str:
        """The same as a Go template over Ollama's .System and .Messages. In one piece, since spaces between actions would be written."""
        start = f"{{{{ if not .System }}}}{_go(self.start)}{{{{ end }}}}" if self.start and self.system else _go(self.start)
        last = "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
        system = ""
        if self.system:
            system = f'{{{{ if eq .Role "system" }}}}{_go(self.system[0])}{{{{ .Content }}}}{_go(self.system[1])}{{{{ end }}}}'
        user = f"{_go(self.user[0])}{{{{ .Content }}}}{_go(self.user[1])}{{{{ if $last }}}}{_go(self.opening)}{{{{ end }}}}"
        closed = f"{_go(self.assistant[0])}{{{{ .Content }}}}{_go(self.assistant[1])}"
        assistant = f"{{{{ if $last }}}}{_go(self.opening)}{{{{ .Content }}}}{{{{ else }}}}{closed}{{{{ end }}}}"
        return (
            f"{start}{{{{ range $i, $_ := .Messages }}}}{last}{system}"
            f'{{{{ if eq .Role "user" }}}}{user}{{{{ end }}}}{{{{ if eq .Role "assistant" }}}}{assistant}{{{{ end }}}}{{{{ end }}}}'
        )


def turnings(tokenizer: Any) -> Turnings:
    """Found in the tokenizer's chat template. The first token of a text is left out: the server writes it itself.

    Raises AdapterError when there is no template, or one that Ollama can't be given.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise AdapterError("the tokenizer has no chat template, so that Ollama can't be told one: train an instruct model")
    try:
        found = _found(tokenizer)
        wrong = next((turns for turns in _shapes(found.system is not None) if found.render(turns) != _rendered(tokenizer, turns)), None)
    except (ValueError, IndexError) as error:
        raise AdapterError(f"the chat template can't be told to Ollama ({error}): write TEMPLATE yourself") from error
    if wrong:
        raise AdapterError(
            f"the chat template can't be told to Ollama: it writes {' and '.join(turn['role'] for turn in wrong)} messages otherwise than "
            "one after the other; write TEMPLATE yourself"
        )
    return found


def stop_words(model: Any, tokenizer: Any) -> list[str]:
    """The texts of the tokens that end an answer."""
    from core.providers.traits import end_tokens

    return [text for i in sorted(end_tokens(model, tokenizer)) if (text := tokenizer.decode([i]))]


def modelfile(weights: str, template: str, stops: list[str], context: int) -> str:
    """For `ollama create NAME -f Modelfile`. `weights` is the file's name beside it, `context` in tokens."""
    quotes = '"""'
    if quotes in template or any('"' in stop or "\n" in stop for stop in stops):
        raise AdapterError("the chat template or a stop word holds quotation marks that a Modelfile can't: write it yourself")
    lines = [f"FROM ./{weights}", f"TEMPLATE {quotes}{template}{quotes}", *(f'PARAMETER stop "{stop}"' for stop in stops)]
    return "\n".join([*lines, f"PARAMETER num_ctx {context}", ""])


def context_of(config: Any) -> int:
    """Tokens that Ollama is told to keep room for."""
    return min(CONTEXT, int(getattr(config, "max_position_embeddings", 0) or CONTEXT))


def _found(tokenizer: Any) -> Turnings:
    user = {"role": "user", "content": USER}
    answer = {"role": "assistant", "content": ANSWER}
    alone, opened = _rendered(tokenizer, [user], opening=False), _rendered(tokenizer, [user])
    before, user_after = _around(alone, USER)
    if not opened.startswith(alone) or opened == alone:
        raise ValueError("it doesn't open an answer after a question")
    conversation = _rendered(tokenizer, [user, answer, {"role": "user", "content": NEXT}], opening=False)
    between, rest = _around(_around(conversation, USER)[1], ANSWER)
    answer_after = _around(_rendered(tokenizer, [user, answer], opening=False), ANSWER)[1]
    next_before = _around(rest, NEXT)[0]
    if not between.startswith(user_after) or not next_before.startswith(answer_after):
        raise ValueError("turns are written otherwise in the middle than at the end")
    user_before = next_before.removeprefix(answer_after)
    if not before.endswith(user_before):
        raise ValueError("the first question is written otherwise than the second")
    start = before.removesuffix(user_before)
    return Turnings(
        start,
        _system(tokenizer, user, user_before, start),
        (user_before, user_after),
        (between.removeprefix(user_after), answer_after),
        opened.removeprefix(alone),
    )


def _system(tokenizer: Any, user: dict[str, str], user_before: str, start: str) -> tuple[str, str] | None:
    from jinja2 import TemplateError

    try:
        text = _rendered(tokenizer, [{"role": "system", "content": SYSTEM}, user], opening=False)
    except TemplateError:  # how templates say that they take none
        return None
    if SYSTEM not in text:
        return None
    before, rest = _around(text, SYSTEM)
    between = _around(rest, USER)[0]
    if not between.endswith(user_before):
        raise ValueError("a question is written otherwise after a system message")
    return before, between.removesuffix(user_before)


def _around(text: str, word: str) -> tuple[str, str]:
    before, found, after = text.partition(word)
    if not found:
        raise ValueError("it leaves a message out")
    return before, after


def _rendered(tokenizer: Any, turns: Turns, *, opening: bool = True) -> str:
    text: str = tokenizer.apply_chat_template(turns, add_generation_prompt=opening, tokenize=False)
    return text.removeprefix(tokenizer.bos_token) if tokenizer.bos_token else text


def _shapes(system: bool) -> list[Turns]:
    def turns(*roles: str) -> Turns:
        return [{"role": role, "content": f"{role} {place}: a b"} for place, role in enumerate(roles)]

    shapes = [turns("user"), turns("user", "assistant", "user"), turns("user", "assistant", "user", "assistant", "user")]
    return shapes + ([turns("system", "user"), turns("system", "user", "assistant", "user")] if system else [])


def _go(text: str) -> str:
    """Literal text in a Go template."""
    return text.replace("{{", '{{ "{{" }}')
