"""The final answer in what a model wrote, and one spelling for answers that differ only in dress."""

from __future__ import annotations

import re

MAX_TAIL = 20_000
MAX_SHORT_LINE = 80
MAX_CORRECTED = 300
MAX_WRAPPERS = 8
MAX_BOXES = 20

BOXED = "\\boxed{"
MARKER = re.compile(
    r"(?<![\w-])(?<!wrong )(?<!incorrect )(?:"
    r"answer[*_ ]{0,4}[:：][*_ ]{0,4}"
    r"|(?:the|final|my|our) {1,3}answer {1,3}is[ :*_]{0,4}"
    r"|#### {0,3})",
    re.IGNORECASE,
)
OPENED = re.compile(r"(?<=[:：] )\*{1,3}$")
CORRECTION = re.compile(
    r"[,;.–—-]+ ?(?:(?:oh|no|wait|sorry|actually|correction|scratch that|i mean|make that)[ ,;:.!–—-]+)+", re.IGNORECASE
)
PAIRS = (
    ("**", "**"),
    ("*", "*"),
    ("`", "`"),
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ('"', '"'),
    ("'", "'"),
    ("“", "”"),
)

FULL_WIDTH = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
ASCII_FOR = str.maketrans({**FULL_WIDTH, "−": "-", "﹣": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "\u2044": "/"})
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
RAISED = re.compile("⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5", "⅛": "1/8"}
LATEX = (
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:left|right|displaystyle)(?![A-Za-z])"), ""),
    (re.compile(r"\\[dt]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac ?(\d) ?(\d)(?!\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\^\\circ|\^\{\\circ\}"), "°"),
    (re.compile(r"\\!"), ""),
    (re.compile(r"(?<!\\)\\[,;: ]"), " "),
    (re.compile(r"\\([%$])"), r"\1"),
)


def final_answer(text: str) -> str | None:
    """The answer that a text ends with, or None.

    The marker that stands last decides: `Answer: ...`, `the answer is ...`, `#### ...`, `\\boxed{...}`. Without a marker a text of one
    short line is its own answer. A line that offers several answers is returned whole, so that it equals none of them. Only the last
    20,000 characters are read.
    """
    tail = _tail(text)
    marker, marker_end = _marked(tail)
    box = _boxed(tail, after=marker_end)
    found = box if box is not None else marker
    if found is None:
        line = tail.strip()
        found = line if len(line) <= MAX_SHORT_LINE and "\n" not in line else None
    return corrected(_unboxed(found)) or None if found is not None else None


def normalise(answer: str) -> str:
    """One spelling: spaces, mathematics delimiters, emphasis, quotes, one final full stop, Unicode signs and plain LaTeX commands."""
    text = plain(" ".join(answer.split())).strip()
    for _ in range(MAX_WRAPPERS):
        bare = _unwrapped(text)
        if bare == text:
            break
        text = bare
    return "-" + text[1:].lstrip() if text[:1] in "–—-" and len(text) > 1 else text


def plain(text: str) -> str:
    """Signs, raised digits, vulgar fractions and simple LaTeX commands in ASCII; what has no safe ASCII spelling stays."""
    if not text.isascii():
        text = RAISED.sub(lambda match: "^" + match[0].translate(SUPERSCRIPTS), text.translate(ASCII_FOR))
        for sign, spelled in VULGAR.items():
            text = text.replace(sign, f" {spelled}")
    if "\\" in text or "{,}" in text:
        text = text.replace("{,}", ",")
        for pattern, spelled in LATEX:
            text = pattern.sub(spelled, text)
    return text


def corrected(answer: str) -> str:
    """What is left after a change of mind: "41, no, 42" is "42"."""
    answer = " ".join(answer.split())
    if len(answer) > MAX_CORRECTED:
        return answer
    parts = CORRECTION.split(answer)
    return parts[-1].strip() or answer if parts[0].strip() else answer


def _tail(text: str) -> str:
    """The end of the text from a line break on: half a line could say the opposite of the whole."""
    if len(text) <= MAX_TAIL:
        return text
    return text[-MAX_TAIL:].partition("\n")[2]


def _marked(text: str) -> tuple[str | None, int]:
    """What follows the last marker, on its line or on the next that isn't empty, and where that ends."""
    markers = list(MARKER.finditer(text))
    if not markers:
        return None, 0
    last = markers[-1]
    rest = text[last.end() :]
    start = last.end() + len(rest) - len(rest.lstrip())
    emphasis = OPENED.search(last[0])
    start -= len(emphasis[0]) if emphasis else 0
    end = text.find("\n", start)
    end = len(text) if end < 0 else end
    return text[start:end].strip(), end


def _boxed(text: str, after: int) -> str | None:
    """The last balanced box beyond a place; its whole line when that holds several boxes."""
    place, content = len(text), None
    for _ in range(MAX_BOXES):
        place = text.rfind(BOXED, after, place)
        if place < 0:
            return None
        content = _braced(text, place + len(BOXED))
        if content is not None:
            break
    if content is None:
        return None
    start = text.rfind("\n", 0, place) + 1
    end = text.find("\n", place)
    line = text[start : len(text) if end < 0 else end]
    return line if line.count(BOXED) > 1 else content


def _unboxed(text: str) -> str:
    for _ in range(MAX_BOXES):
        place = text.find(BOXED)
        content = _braced(text, place + len(BOXED)) if place >= 0 else None
        if content is None:
            break
        text = text[:place] + content + text[place + len(BOXED) + len(content) + 1 :]
    return text


def _braced(text: str, start: int) -> str | None:
    """The text up to the brace that closes the one before `start`."""
    depth = 1
    for place in range(start, len(text)):
        if text[place] == "{":
            depth += 1
        elif text[place] == "}":
            depth -= 1
            if not depth:
                return text[start:place]
    return None


def _unwrapped(text: str) -> str:
    if text[-1:] in (".", ",", ";") and text[-2:-1] != ".":
        return text[:-1].rstrip()
    for left, right in PAIRS:
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
            return text[len(left) : -len(right)].strip()
    if text.startswith(BOXED) and _braced(text, len(BOXED)) == text[len(BOXED) : -1]:
        return text[len(BOXED) : -1].strip()
    return text
