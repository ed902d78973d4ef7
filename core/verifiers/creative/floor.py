"""The floor under every piece of English writing: what fails, or can't be told, whatever the constraints say.

Constraints alone can be met by "cat cat cat". These checks see empty and repeated text, lists of words, words that are none, text copied
from the prompt, text about the text, and signs that only look like letters. They can't see sense: nonsense in good grammar gets past.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from core.types import Outcome, Record
from core.verifiers.base import short
from core.verifiers.creative.diversity import distinct, longest_run, ngrams
from core.verifiers.creative.piece import WORD, Piece, fold, words_of
from core.verifiers.creative.pronouncing import known
from core.verifiers.creative.salad import impossible_pairs, longest_bare_run
from core.verifiers.creative.wordforms import FUNCTION_WORDS
from core.verifiers.creative.wording import without_phrases
from core.verifiers.judge import speaks_to_a_judge

LEAST_WORDS = 4
LIST_WORDS = 8
PROSE_WORDS = 20
SHORT_WORDS = 30
COPIED_WORDS = 12
KNOWN_SHARE, SURE_SHARE = 0.6, 0.75
STRANGE_SHARE = 0.3
FOREIGN_SHARE = 0.1
MAX_WORD = 40
WINDOW = 50

BARE, LONG_BARE = 7, 10
HIDDEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Mn", "Me", "Mc"))
WITHIN_EMOJI = re.compile("(?<=[^\\W\\d_])[\u200d\ufe0f\u20e3]|\u200d(?=\\w)")
BLANKS = "\u3164\u115f\u1160\uffa0\u2800"
META_START = re.compile(
    r"(?:(?:sure|certainly|of course|absolutely|okay|ok|great)[!,.:]{1,3}[^\n]{0,120}(?::|\n)"
    r"|(?:here(?:'s| is| are)|this is|below is|the following is) (?:a|an|the|your|my|one|some)\b[^\n]{0,120}:\s*\n"
    r"|(?:question|task|prompt|instructions?|constraints?|draft|reasoning|thought|attempt|version|option) ?\d{0,2}:)",
    re.IGNORECASE,
)
META_END = re.compile(
    r"\n\s*[*_(\[]{0,3}(?:i hope (?:you|this|that)|let me know|feel free to|note(?: that)?:|please note|would you like"
    r"|word count|(?:total )?words?:|syllables?:|this (?:poem|haiku|limerick|story|piece|text|sonnet|answer|sentence) "
    r"(?:meets|satisfies|has|contains|uses|follows|is \d))[^\n]{0,400}\s*\Z",
    re.IGNORECASE,
)
META = re.compile(
    r"(?:^|\n)[\W_]{0,8}(?:final )?answer ?[\W_]{0,3}:|\bas an ai\b|\bai language model\b|\bword count\b|</?think>"
    r"|\bconstraints? (?:is|are|was|were) (?:met|held|satisfied)\b|\(\d{1,3} (?:words|syllables|characters|lines)\)"
    r"|\b(?:this|my) (?:sentence|poem|haiku|piece|text|answer|story|line)(?: \w{1,20}){0,5} (?:has|contains|is|uses|includes)"
    r"(?: exactly| only| just| at least)? (?:\d{1,4}|the (?:required )?words?|one|two|three|four|five|six|seven|eight|nine|ten|twelve)\b"
    r"(?: \w{1,20}){0,3} ?(?:words?|lines?|syllables?|letters?|sentences?)\b"
    r"|</?[a-z][^<>\n]{0,40}>|&(?:[a-z]{2,8}|#\d{1,6});|https?://|\bwww\."
    r"|\blorem ipsum\b|\[(?:your|insert|placeholder)[^\]\n]{0,60}\]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Ground(Record):
    """What the floor is told of the task: its prompt, the phrases asked for, the fewest words, and kinds of constraints."""

    prompt: str
    asked: tuple[tuple[str, ...], ...]
    least: int
    kinds: frozenset[str]


Fault = tuple[Outcome, str]


def fault_of(piece: Piece, ground: Ground) -> Fault | None:
    """The first fault that fails the piece, else the first that leaves it undecided, else None."""
    undecided = None
    for check in FLOOR:
        for outcome, reason in check(piece, ground):
            if outcome is Outcome.FAIL:
                return outcome, reason
            undecided = undecided or (outcome, reason)
    return undecided


def _size(piece: Piece, ground: Ground) -> Iterator[Fault]:
    count = len(piece.words)
    if not count:
        yield Outcome.FAIL, "no piece found: write 'Answer:' and then the piece"
    elif count < ground.least:
        yield Outcome.FAIL, f"{count} words are no piece of writing: {ground.least} at least"


def _signs(piece: Piece, ground: Ground) -> Iterator[Fault]:
    bad = {sign for sign in set(piece.text) if _hidden(sign)} | set(WITHIN_EMOJI.findall(piece.text))
    if bad:
        yield Outcome.FAIL, f"invisible or combining characters in it: {', '.join(sorted(f'U+{ord(sign):04X}' for sign in bad)[:5])}"
    dense = [sign for sign in piece.text if not sign.isspace()]
    strange = sum(not sign.isalnum() and not unicodedata.category(sign).startswith("P") for sign in dense)
    if strange > STRANGE_SHARE * len(dense) or sum(map(str.isalpha, dense)) < 0.5 * len(dense):
        yield Outcome.FAIL, "more signs than letters in it"
    foreign = [word for word in WORD.findall(piece.text) if not fold(word).isascii()]
    if any(any(letter.isascii() and letter.isalpha() for letter in fold(word)) for word in foreign):
        yield Outcome.FAIL, "a word mixes letters of two alphabets"
    if _foreign(piece):
        yield Outcome.ABSTAIN, "not written in English letters: only English can be checked"


def _foreign(piece: Piece) -> bool:
    return sum(not word.isascii() for word in piece.words) > FOREIGN_SHARE * len(piece.words)


def _hidden(sign: str) -> bool:
    category = unicodedata.category(sign)
    return (category in HIDDEN and sign not in "\n\t\u200d\ufe0f\u20e3") or sign in BLANKS


def _about_itself(piece: Piece, ground: Ground) -> Iterator[Fault]:
    plea = speaks_to_a_judge(piece.text)
    if plea:
        yield Outcome.FAIL, f"it speaks to whoever judges it: {plea}"
    found = META_START.match(piece.text) or META_END.search(piece.text[-1_000:]) or META.search(piece.text)
    if found:
        yield Outcome.FAIL, f"not the piece alone; write it after 'Answer:' and nothing else: {short(found[0])}"


def _language(piece: Piece, ground: Ground) -> Iterator[Fault]:
    if _foreign(piece):
        return
    words = [word for word in piece.words if not word.isdigit()]
    if not words:
        yield Outcome.FAIL, "no word in it"
        return
    longest = max(words, key=len)
    if len(longest) > MAX_WORD:
        yield Outcome.FAIL, f"{short(longest)} is no word"
    counts = Counter(words)
    strange = [word for word in counts if not _is_word(word)]
    share = 1 - sum(counts[word] for word in strange) / len(words)
    if share < SURE_SHARE:
        outcome = Outcome.FAIL if share < KNOWN_SHARE else Outcome.ABSTAIN
        yield outcome, f"{share:.0%} of the words are in the dictionary; not: {short(', '.join(sorted(strange)[:9]))}"


def _is_word(word: str) -> bool:
    if len(word) == 1:
        return word in "aio" or word.isdigit()
    return known(word) or (word.isalnum() and word[:1].isdigit())


def _small_words(piece: Piece, ground: Ground) -> Iterator[Fault]:
    """A list of words has no small words, and a text of nothing else says nothing."""
    if _foreign(piece):
        return
    words, count = piece.words, len(piece.words)
    small = sum(word in FUNCTION_WORDS for word in words)
    listed = ground.kinds & {"bullets", "alliteration", "lipogram", "acrostic"}
    if count >= LIST_WORDS and small < 0.08 * count and ground.least == LEAST_WORDS:
        outcome = Outcome.ABSTAIN if listed or count < PROSE_WORDS else Outcome.FAIL
        outcome = Outcome.FAIL if not small and not listed else outcome
        yield outcome, f"{small} of {count} words hold sentences together: it reads as a list of words"
    elif not small and count >= LEAST_WORDS:
        yield Outcome.ABSTAIN, "no small words that hold a sentence together: it may be a list of words"
    if count >= PROSE_WORDS and small > 0.9 * count:
        yield Outcome.FAIL, f"{small} of {count} words only hold sentences together: they say nothing"


def _order(piece: Piece, ground: Ground) -> Iterator[Fault]:
    """Words in an order that no sentence has."""
    if _foreign(piece):
        return
    count, impossible, bare = len(piece.words), impossible_pairs(piece), longest_bare_run(piece)
    if len(impossible) >= max(2, 0.03 * count):
        yield Outcome.FAIL, f"it reads as words in any order: {short(', '.join(impossible))}"
    elif impossible and count < SHORT_WORDS:
        yield Outcome.ABSTAIN, f"it may be words in any order: {short(', '.join(impossible))}"
    if len(bare) >= BARE:
        outcome = Outcome.FAIL if len(bare) >= LONG_BARE and "alliteration" not in ground.kinds else Outcome.ABSTAIN
        yield outcome, f"it may be words in any order: {short(' '.join(bare))}"


def _repetition(piece: Piece, ground: Ground) -> Iterator[Fault]:
    words, count = piece.words, len(piece.words)
    if count < 3:
        return
    starts = range(0, max(1, count - WINDOW + 1), WINDOW)
    variety = sum(len(set(words[at : at + WINDOW])) / len(words[at : at + WINDOW]) for at in starts) / len(starts)
    if variety < (0.5 if count < WINDOW else 0.4):
        yield Outcome.FAIL, f"only {variety:.0%} of the words differ from each other"
    word, often = Counter(word for word in words if word not in FUNCTION_WORDS).most_common(1)[0] if _has_content(words) else ("", 0)
    if count >= LIST_WORDS and often > max(2, 0.25 * count):
        yield Outcome.FAIL, f"{short(word)} stands {often} times in {count} words"
    if count >= 10 and distinct([words], 2) < 0.5:
        yield Outcome.FAIL, f"only {distinct([words], 2):.0%} of the word pairs differ from each other"
    lines = [line.words for line in piece.lines]
    if len(lines) >= 2 and len(set(lines)) < (0.6 if len(lines) > 2 else 1) * len(lines):
        yield Outcome.FAIL, f"{len(lines) - len(set(lines))} of {len(lines)} lines are repeated"
    raw = " ".join(words).encode()
    if len(raw) > 2_000 and len(zlib.compress(raw)) < 0.2 * len(raw):
        yield Outcome.FAIL, "the same phrases come again and again"


def _has_content(words: Sequence[str]) -> bool:
    return any(word not in FUNCTION_WORDS for word in words)


def _copies(piece: Piece, ground: Ground) -> Iterator[Fault]:
    count = len(piece.words)
    own = without_phrases(piece.words, ground.asked)
    left = [word for word in own if word is not None]
    content = [word for word in left if word not in FUNCTION_WORDS]
    if count >= LEAST_WORDS and (len(left) < 0.2 * count or (len(left) < 0.4 * count and (not content or len(content) == len(left)))):
        yield Outcome.FAIL, f"hardly more than the words asked for: {len(left)} of {count} words are its own"
    prompt = words_of(ground.prompt)
    run = longest_run(own, [prompt])
    if len(run) > COPIED_WORDS or (len(run) >= 4 and len(run) >= 0.6 * count) or (count > 1 and len(run) == count):
        yield Outcome.FAIL, f"{len(run)} words in a row are copied from the prompt: {short(' '.join(run))}"
    known_grams = set(ngrams(prompt, 3))
    grams = [gram for gram in zip(own, own[1:], own[2:], strict=False) if None not in gram]
    if len(grams) >= 6 and sum(gram in known_grams for gram in grams) > 0.5 * len(grams):
        yield Outcome.FAIL, "most of it is pieced together from the prompt"


FLOOR: tuple[Callable[[Piece, Ground], Iterator[Fault]], ...] = (
    _size,
    _signs,
    _about_itself,
    _language,
    _repetition,
    _small_words,
    _order,
    _copies,
)
