"""The code in what a model wrote. Nothing is parsed or run here: text in, text out."""

from __future__ import annotations

import re

MAX_TEXT = 1_000_000
MAX_CODE = 100_000
FENCE = re.compile(r"( {0,12})(`{3,}|~{3,})[ \t]*([^`\n]*)$")
ANSWER = re.compile(r"^[*_# ]{0,6}Answer[*_ ]{0,4}[:：][*_]{0,4}", re.IGNORECASE | re.MULTILINE)
TAGS = {"python": {"python", "py", "python3"}, "javascript": {"javascript", "js", "node", "mjs", "cjs"}}


def find_code(text: str, language: str = "python", name: str = "") -> str:
    """The solution: of the last fenced block in the language that defines `name`, or the last at all; else after "Answer:"; else all of it.

    A block without a language counts when none names the right one. An opened fence that never closes runs to the end. "" when there is
    nothing.
    """
    if len(text) > MAX_TEXT:
        return ""
    blocks = _blocks(text)
    named = [code for tag, code in blocks if tag in TAGS.get(language, {language})]
    plain = [code for tag, code in blocks if not tag]
    for candidates in (named, plain):
        if candidates:
            return next((code for code in reversed(candidates) if name and defines(code, name)), candidates[-1])
    markers = list(ANSWER.finditer(text))
    rest = text[markers[-1].end() :] if markers else text
    return rest.strip("\n").rstrip() if not blocks else ""


def defines(code: str, name: str) -> bool:
    """Whether some line looks like the definition of a name."""
    name = re.escape(name.split(".")[0])
    assigned = rf"{name}[ \t]*(?::[^=\n]{{0,200}})?=(?!=)"
    defined = re.compile(rf"(?:(?:async[ \t]+)?def[ \t]+{name}\b|class[ \t]+{name}\b|{assigned}|from[ \t][^#]*\b{name}\b)")
    return any(defined.match(line) for line in code.split("\n"))


def completed(prompt: str, code: str, name: str) -> str:
    """Code that only continues the function whose head ends the prompt, as a whole; other code as it is."""
    begins = code[:1] in (" ", "\t")
    return f"{prompt.rstrip()}\n{code}" if begins and defines(prompt, name) and not defines(code, name) else code


def _blocks(text: str) -> list[tuple[str, str]]:
    """The fenced blocks as (language in small letters, content)."""
    blocks: list[tuple[str, str]] = []
    margin, fence, tag, lines = "", "", "", [""]
    for line in text.split("\n"):
        found = FENCE.match((line if fence else ANSWER.sub("", line, count=1)).rstrip("\r"))
        if not fence:
            if found:
                margin, fence, tag, lines = found[1], found[2], (found[3].split() or [""])[0].strip("{}.").lower(), []
        elif found and found[2].startswith(fence) and not found[3].strip():
            blocks.append((tag, "\n".join(lines)))
            fence = ""
        else:
            lines.append(line.removeprefix(margin))
    if fence:
        blocks.append((tag, "\n".join(lines)))
    return [(tag, code) for tag, code in blocks if code.strip()]
