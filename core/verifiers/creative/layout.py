"""Constraints on length and layout: words, lines, sentences, paragraphs, titles, lists, sections, acrostics."""

from __future__ import annotations

from core.verifiers.base import short
from core.verifiers.creative.limits import BOUNDS, Found, Options, counted, worst
from core.verifiers.creative.piece import Piece, fold, words_of


def check_words(piece: Piece, options: Options) -> Found:
    """Words of the whole, and by line: `per_line` a count for each, `each` limits for every line."""
    findings = [counted("words", options, len(piece.words))]
    if "per_line" in options:
        counts = [len(line.words) for line in piece.lines]
        findings.append(Found(counts == list(options["per_line"]), f"words by line: {counts[:20]}, {options['per_line'][:20]} asked for"))
    for at, line in enumerate(piece.lines if "each" in options else ()):
        found = counted("words", options["each"], len(line.words))
        findings.append(found.replace(found=f"line {at + 1} has {found.found}: {short(line.text)}"))
    return worst(findings, f"{len(piece.words)} words")


def check_lines(piece: Piece, options: Options) -> Found:
    """Lines that hold a word."""
    return counted("lines", options, len(piece.lines))


def check_characters(piece: Piece, options: Options) -> Found:
    """Characters of the whole, spaces and title with it."""
    return counted("characters", options, len(piece.text))


def check_sentences(piece: Piece, options: Options) -> Found:
    """Sentences; where a full stop may or may not end one, both counts must do."""
    return counted("sentences", options, *piece.sentences)


def check_paragraphs(piece: Piece, options: Options) -> Found:
    """Paragraphs or stanzas, and `lines` in each."""
    findings = [counted("paragraphs", options, len(piece.paragraphs))] if set(BOUNDS) & set(options) else []
    for at, lines in enumerate(piece.paragraphs if "lines" in options else ()):
        findings.append(Found(len(lines) == options["lines"], f"paragraph {at + 1} has {len(lines)} lines, {options['lines']} asked for"))
    return worst(findings, f"{len(piece.paragraphs)} paragraphs")


def check_title(piece: Piece, options: Options) -> Found:
    """A first line that is a heading, or stands apart from what follows; `min` and `max` count its words."""
    if piece.title is None:
        return Found(False, "no title: it stands on the first line, with an empty line after it")
    return counted("words in the title", options, len(words_of(piece.title)))


def check_bullets(piece: Piece, options: Options) -> Found:
    """List items; `style` dashed or numbered (then from 1 on); `only`: nothing else."""
    style = options.get("style", "any")
    bullets = [line.bullet for line in piece.lines if line.bullet and (style == "any" or line.bullet.isdigit() == (style == "numbered"))]
    findings = [counted("list items", options if set(BOUNDS) & set(options) else {"min": 1}, len(bullets))]
    if style == "numbered":
        findings.append(Found(bullets == [str(n) for n in range(1, len(bullets) + 1)], f"the items are numbered {' '.join(bullets[:20])}"))
    if options.get("only"):
        findings.append(Found(len(bullets) == len(piece.lines), f"{len(piece.lines) - len(bullets)} lines are no list items"))
    return worst(findings, f"{len(bullets)} list items")


def check_sections(piece: Piece, options: Options) -> Found:
    """Lines that are these `headings`, in this order, each with text after it."""
    wanted = [words_of(heading) for heading in options["headings"]]
    places, at = [], 0
    for heading in wanted:
        at = next((place for place in range(at, len(piece.lines)) if piece.lines[place].words == heading), -1) + 1
        if not at:
            return Found(False, f"the heading {short(' '.join(heading))} is missing, or not in its place")
        places.append(at)
    empty = [place for place in places if place >= len(piece.lines) or place + 1 in places]
    return Found(not empty, "a heading has no text after it" if empty else f"{len(wanted)} sections")


def check_acrostic(piece: Piece, options: Options) -> Found:
    """The first letters of the lines, or of the words (`by`), spell `word`, and nothing is left over."""
    wanted = "".join(letter for letter in fold(options["word"]) if letter.isalnum())
    words = piece.words if options.get("by") == "words" else [line.words[0] for line in piece.lines]
    spelled = "".join(word[0] for word in words)
    return Found(spelled == wanted, f"the first letters spell {short(spelled)}, {short(wanted)} asked for")
