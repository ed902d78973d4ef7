"""How English words sound: syllables and rhymes from the CMU Pronouncing Dictionary, and an honest range for words it lacks.

Words of letters, apostrophes and hyphens only. The data file keeps one character per sound, all words and then all their sounds, so that
it loads in one step (`pack` makes it from cmudict.dict); its licence stands beside it in pronouncing.LICENSE.txt.
"""

from __future__ import annotations

import lzma
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from pathlib import Path

from core.types import Record
from core.verifiers.creative.wordforms import word_set

DATA = Path(__file__).with_name("pronouncing.txt.xz")
B_TO_N = ("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N")
CONSONANTS = (*B_TO_N, "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH")
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
PHONES = (*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in "012"))
CODE = {phone: chr(33 + place) for place, phone in enumerate(PHONES)}
PHONE = {code: phone for phone, code in CODE.items()}
FIRST_VOWEL = CODE["AA0"]
ENTRY = re.compile(r"([a-z'-]*[a-z][a-z'-]*)(?:\(\d\))? ([A-Z0-2 ]+?)(?: #.*)?")

SIBILANTS = tuple(CODE[phone] for phone in ("S", "Z", "SH", "ZH", "CH", "JH"))
VOICELESS = tuple(CODE[phone] for phone in ("P", "T", "K", "F", "TH"))
MAX_PARTS = 8
MAX_SPOKEN = 8
MAX_EXACT_WORDS = 64
MAX_SPREAD = 1_000
VOWEL_RUN = re.compile(r"[aeiouy]+")
SILENT_END = re.compile(r"(?:[^aeiouy](?:e|es|ed)|[gq]ues?)$")
INNER_SILENT = re.compile(r"[^aeiouy]e(?=[^aeiouy])|(?<=ic)a(?=lly$)")
SYLLABIC = re.compile(r"^mc|(?:[sth]m|[^aeiouy][lnr])s?$|[^aeiouyl]l(?:er|ing|y)")
MAX_ESTIMATED = 60
UNSTRESSED_ENDS = word_set("it me you him her them us is in on of to be was are")

_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Syllables(Record):
    """How many syllables a word or a line may have: any of `known`, and between `low` and `high` more for words no dictionary has."""

    known: frozenset[int] = frozenset((0,))
    low: int = 0
    high: int = 0

    def __add__(self, other: Syllables) -> Syllables:
        known = frozenset(one + two for one in self.known for two in other.known)
        return Syllables(known, self.low + other.low, self.high + other.high)

    def __str__(self) -> str:
        least, most = min(self.known) + self.low, max(self.known) + self.high
        return str(least) if least == most else f"{least} to {most}"

    def within(self, least: int, most: int) -> bool | None:
        """Whether some known reading lies within, both ends counted; None when the unknown words decide that."""
        if self.high - self.low > MAX_SPREAD:
            apart = max(self.known) + self.high < least or min(self.known) + self.low > most
            return False if apart else None
        fits = [any(least <= known + more <= most for known in self.known) for more in range(self.low, self.high + 1)]
        return True if all(fits) else None if any(fits) else False


def pronunciations(word: str) -> tuple[str, ...]:
    """The ways to say a word in lower case, one character per sound (`PHONE` names them); empty when they aren't known.

    Possessives, regular plurals, dropped g's and compounds with hyphens are said like the words that they are made of.
    """
    return _pronunciations(word) if len(word) <= MAX_ESTIMATED else ()


def known(word: str) -> bool:
    """Whether the dictionary has the word, in one of these forms."""
    return bool(pronunciations(word))


def syllables(words: Sequence[str]) -> Syllables:
    """The syllables of a line of words."""
    counts = [_syllables(word) for word in words]
    total = Syllables()
    for count in counts[:MAX_EXACT_WORDS]:
        total += count
    least = sum(min(count.known) + count.low for count in counts[MAX_EXACT_WORDS:])
    most = sum(max(count.known) + count.high for count in counts[MAX_EXACT_WORDS:])
    return total + Syllables(low=least, high=most)


def rhyme(one: Sequence[str], other: Sequence[str]) -> bool | None:
    """Whether two lines rhyme: the same sounds from the last stressed vowel on, and other sounds before it. None: a word is unknown.

    A word doesn't rhyme with itself. The last syllable of a word like "memory" may rhyme with "free", not with that of "charity". Vowels
    that many accents don't keep apart count as the same: dog and log, near and here.
    """
    if not one or not other:
        return False
    plain = product(_endings(one), _endings(other))
    promoted = (*product(_promoted(one), _endings(other)), *product(_endings(one), _promoted(other)))
    if any(a[1] == b[1] and a[0] != b[0] for a, b in (*plain, *promoted)):
        return True
    if one[-1] == other[-1]:
        return False
    return False if known(one[-1]) and known(other[-1]) else None


def pack(dictionary: str) -> bytes:
    """The data file, made from the text of cmudict.dict. Entries with digits or signs are left out: no word of a text looks like them."""
    sounds: dict[str, list[str]] = {}
    for line in dictionary.splitlines():
        entry = ENTRY.fullmatch(line)
        if entry:
            sounds.setdefault(entry[1], []).append("".join(CODE[phone] for phone in entry[2].split()))
    words = sorted(sounds)
    text = "\n".join(words) + "\n\n" + "\n".join(" ".join(dict.fromkeys(sounds[word])) for word in words)
    return lzma.compress(text.encode("ascii"), preset=9 | lzma.PRESET_EXTREME)


def dictionary() -> Mapping[str, str]:
    """Words and their sounds, alternatives joined by spaces; read once, whichever thread asks first."""
    with _loading:
        return _load()


@lru_cache(maxsize=1)
def _load() -> Mapping[str, str]:
    words, _, sounds = lzma.decompress(DATA.read_bytes()).decode("ascii").partition("\n\n")
    return dict(zip(words.split("\n"), sounds.split("\n"), strict=True))


@lru_cache(maxsize=16_384)
def _pronunciations(word: str) -> tuple[str, ...]:
    word = word.replace("’", "'")
    found = dictionary().get(word) or dictionary().get(f"'{word}")
    if found:
        return tuple(found.split(" "))
    if "-" in word:
        parts = [_pronunciations(part) for part in word.split("-") if part]
        if len(parts) > MAX_PARTS or not all(parts):
            return ()
        return tuple("".join(choice) for choice in product(*(part[:2] for part in parts)))[:MAX_SPOKEN]
    return tuple(_derived(word))


def _derived(word: str) -> Iterator[str]:
    """Possessives and regular plurals (moonbeam's, moonbeams), and a dropped g (runnin)."""
    words = dictionary()
    stem = word[:-2] if word.endswith("'s") else word[:-1] if word.endswith("s") and len(word) > 3 else ""
    if stem not in words and word.endswith("es") and len(word) > 4:
        stem = word[:-2]
    for said in words.get(stem, "").split():
        if said.endswith(SIBILANTS):
            yield said + CODE["IH0"] + CODE["Z"]
        else:
            yield said + CODE["S" if said.endswith(VOICELESS) else "Z"]
    if word.endswith("in") and len(word) > 4:
        for said in words.get(word + "g", "").split():
            yield said[:-1] + CODE["N"]


@lru_cache(maxsize=16_384)
def _syllables(word: str) -> Syllables:
    spoken = pronunciations(word)
    if spoken:
        return Syllables(frozenset(sum(sound >= FIRST_VOWEL for sound in said) for said in spoken))
    low, high = _estimate(word)
    return Syllables(low=low, high=high)


def _estimate(word: str) -> tuple[int, int]:
    """The fewest and the most syllables that a spelling plausibly has. Digits can be read in many ways."""
    if not word.isascii() or len(word) > MAX_ESTIMATED:
        return 1, max(1, len(word))
    low = high = 0
    for part in re.split(r"[-'’]", word):
        digits = sum(letter.isdigit() for letter in part)
        runs = VOWEL_RUN.findall(part)
        silent = len(INNER_SILENT.findall(part)) + bool(SILENT_END.search(part))
        low += max(len(runs) - silent, 1 if part else 0)
        high += sum(map(len, runs)) + len(SYLLABIC.findall(part)) + 5 * digits
        if part and not runs:
            high += 3 * len(part)
    return max(low, 1), max(high, low, 1)


def _endings(words: Sequence[str]) -> list[tuple[str, str]]:
    """What may have to rhyme: the last word, or the last two where the last can go unstressed ("know it" with "poet")."""
    found = [_ending(said) for said in pronunciations(words[-1])]
    if len(words) > 1 and words[-1] in UNSTRESSED_ENDS:
        for before, last in product(pronunciations(words[-2]), pronunciations(words[-1])):
            unstressed = "".join(CODE[PHONE[sound][:-1] + "0"] if sound >= FIRST_VOWEL else sound for sound in last)
            found.append(_ending(before + unstressed))
    return found


def _promoted(words: Sequence[str]) -> list[tuple[str, str]]:
    """What a last syllable would have to rhyme with that verse stresses, two syllables after the word's own stress."""
    found = []
    for said in pronunciations(words[-1]):
        stresses = "".join(PHONE[sound][-1] for sound in said if sound >= FIRST_VOWEL)
        if len(stresses) > 2 and stresses.endswith("00"):
            last = max(place for place, sound in enumerate(said) if sound >= FIRST_VOWEL)
            found.append(_ending(said[:last] + CODE[PHONE[said[last]][:-1] + "1"] + said[last + 1 :]))
    return found


@lru_cache(maxsize=16_384)
def _ending(said: str) -> tuple[str, str]:
    """The consonants before the last stressed vowel, and the sounds from there on, in one spelling."""
    vowels = [place for place, sound in enumerate(said) if sound >= FIRST_VOWEL]
    if not vowels:
        return said, said
    stressed = [place for place in vowels if not PHONE[said[place]].endswith("0")]
    start = stressed[-1] if stressed else vowels[-1]
    onset = start
    while onset and said[onset - 1] < FIRST_VOWEL:
        onset -= 1
    phones = [PHONE[sound] for sound in said[start:]] + [""]
    return said[onset:start], " ".join(_merged(phone, after, at == 0) for at, (phone, after) in enumerate(pairwise(phones)))


def _merged(phone: str, after: str, stressed: bool) -> str:
    bare = phone.rstrip("012")
    if after == "R":
        return {"IY": "IH", "UH": "AO"}.get(bare, bare)
    if bare == "AO":
        return "AA"
    return "AH" if bare == "IH" and not stressed else bare
