"""Forms of English words: the inflections of a word, and the small words that hold sentences together."""

from __future__ import annotations

from functools import lru_cache


def word_set(text: str) -> frozenset[str]:
    """The words of a list that is written as one text."""
    return frozenset(text.split())


VOWELS = "aeiou"
IRREGULAR_ROWS = """am are be been being is was were|had has have having|did do does doing done|go goes going gone went|saw see seen
said say|made make making|take taken taking took|came come coming|gave give given giving|find found|think thought|tell told|feel felt
leave leaving left|bring brought|began begin beginning begun|keep kept|held hold|write writing written wrote|stand stood|hear heard
ran run running|lose losing lost|fall fallen fell|sang sing sung|swam swim swimming swum|flew flies fly flying flown|grew grow grown
knew know known|blew blow blown|threw throw thrown|draw drawn drew|drank drink drunk|sleep slept|sweep swept|dream dreamt|build built
send sent|spend spent|catch caught|taught teach|bought buy|sell sold|break breaking broke broken|speak speaking spoke spoken|feed fed
wake waking woke woken|ridden ride riding rode|rise risen rising rose|drive driven driving drove|shine shining shone|hid hidden hide hiding
wear wore worn|ate eat eaten|sat sit sitting|win winning won|get getting got gotten|forget forgot forgotten|choose choosing chose chosen
freeze freezing froze frozen|steal stole stolen|weave weaving wove woven|meet met|lead led|light lit|child children|man men|woman women
mice mouse|geese goose|feet foot|teeth tooth|leaf leaves|knife knives|wolf wolves|life lives|wife wives|half halves|loaf loaves
thief thieves|best better good|bad worse worst|far farther farthest"""
IRREGULAR = tuple(frozenset(row.split()) for line in IRREGULAR_ROWS.splitlines() for row in line.split("|"))

FUNCTION_WORDS = word_set(
    """a an the this that these those my your his her its our their mine yours hers ours theirs some any no every each
all both either neither much many more most few little other another such what which who whom whose where when why how i me you he him she
it we us they them myself yourself himself herself itself ourselves themselves and or but nor so yet for if as than because while although
though until unless since whether of in on at by with from to into onto over under above below between among through across along around
about after before behind beside beyond near off out up down against during without within upon toward towards is am are was were be been
being has have had do does did will would shall should can could may might must not there here then now too very just only also still even
again never always ever once i'm i'll i've i'd it's he's she's that's there's don't doesn't didn't isn't wasn't aren't weren't can't won't
couldn't wouldn't you're we're they're you'll we'll they'll let's"""
)


@lru_cache(maxsize=4_096)
def forms(word: str) -> frozenset[str]:
    """A word in lower case and what it may turn into: plurals, tenses, comparisons. Errs on the side of a form too many."""
    found = {word, f"{word}'s", word + "s", word + "es", word + "ed", word + "ing", word + "er", word + "est"}
    if word.endswith("e"):
        found |= {word + "d", word + "r", word + "st", word[:-1] + "ing"}
    if word.endswith("ie"):
        found.add(word[:-2] + "ying")
    if word.endswith("y") and word[-2:-1] not in VOWELS:
        found |= {word[:-1] + end for end in ("ies", "ied", "ier", "iest")}
    if len(word) > 2 and word[-1] not in VOWELS + "wxy" and word[-2] in VOWELS and word[-3] not in VOWELS:
        found |= {word + word[-1] + end for end in ("ed", "ing", "er", "est")}
    for row in IRREGULAR:
        if word in row:
            found |= row
    return frozenset(found)
