"""The English words by which questions and statements of fact are read: auxiliaries, prepositions, negations, times, irregular verbs."""

from __future__ import annotations


def listed(words: str) -> frozenset[str]:
    """A set of words, written with spaces between them."""
    return frozenset(words.split())


COPULAS = listed("is are was were")
AUXILIARIES = COPULAS | listed("has have had will can could would should must may might")
SUPPORTS = listed("do does did")
DETERMINERS = listed("the a an")
BARE_PLACES = listed("in at on")
PLACES = BARE_PLACES | listed("near under behind beside beneath inside outside above below opposite between to")
PREPOSITIONS = listed("in at on to from by with for of about under near into over through")
RELATIVES = listed("who which where whose when while whereas")
COORDINATORS = listed("and but while whereas")
CONJUNCTIONS = listed("and or but if")
SUBORDINATORS = listed("although though because since after before unless as once until that whether if when while where")
PRONOUNS = listed(
    "he she it they him them his her hers its their theirs i you we me us my mine your yours our ours this that these those here there"
    " himself herself itself themselves former latter"
)
FUNCTION = (
    AUXILIARIES
    | SUPPORTS
    | DETERMINERS
    | CONJUNCTIONS
    | listed(
        "of in on at to from by with for be been being am shall as than then so into onto about also that this these those it its he she"
    )
    | listed("they his her their him them i you we my your our who whom whose what which when where why how many much there here one it's")
)
NEGATIONS = listed(
    "not no never none neither nor without hardly barely cannot nobody nothing nowhere isn't wasn't aren't weren't doesn't don't didn't"
    " hasn't haven't hadn't won't can't couldn't wouldn't shouldn't"
)
HEDGES = listed("think believe guess suppose probably perhaps maybe likely possibly answer correct right")
MEASURES = listed("old tall long wide high deep heavy large big far fast")
MONTHS = listed("january february march april may june july august september october november december")
DAYS = listed("monday tuesday wednesday thursday friday saturday sunday")
TIMES = listed(
    "morning afternoon evening night noon midnight dawn dusk spring summer autumn fall winter year month week day century decade hour"
    " minute moment end beginning start past future meantime years months weeks days hours minutes weekend weekends holidays"
)
CALENDAR = MONTHS | DAYS | TIMES
WITHIN_DATES = listed("the of , early late mid a.m p.m am pm")
COLOURS = listed("red blue green black white grey gray yellow brown orange purple pink violet gold silver")
PARTICIPLES = listed("born built made held won led sold written known bound found kept sent taught bought caught sung struck")
PERFECT = listed(
    "done gone seen known given taken written spoken grown fallen drawn broken risen driven worn chosen flown sung swum drunk eaten stolen"
)
NO_NOUN = listed("up down out off away back over only just also still already not never no about")
# what may take a statement back, or date it
RETRACTING = listed(
    "false untrue true wrong incorrect mistaken lie lies lied myth rumour rumor rumoured fiction fictional hoax error errors correction"
    " corrected retracted supposed supposedly allegedly claims claimed contrary hypothetical imagine suppose pretend pretends denied denies"
    " satire joke guess guessed dream dreamed"
)
CHANGING = listed(
    "now later then formerly former previously originally until became become becomes moved moves instead replaced changed longer used sold"
    " gave resigned anymore currently meanwhile ago today recently soon next new renamed lost added removed"
)
FORMS = (
    "be:is are was were been|have:has had|do:does did done|go:goes went gone|say:said|make:made|take:took taken|come:came|see:saw seen"
    "|know:knew known|get:got gotten|give:gave given|find:found|think:thought|tell:told|become:became|leave:left|feel:felt|bring:brought"
    "|begin:began begun|keep:kept|hold:held|write:wrote written|stand:stood|hear:heard|mean:meant|meet:met|run:ran|pay:paid|sit:sat"
    "|speak:spoke spoken|lead:led|grow:grew grown|lose:lost|fall:fell fallen|send:sent|build:built|understand:understood|draw:drew drawn"
    "|break:broke broken|spend:spent|rise:rose risen|drive:drove driven|buy:bought|wear:wore worn|choose:chose chosen|win:won|sell:sold"
    "|teach:taught|fly:flew flown|sing:sang sung|swim:swam swum|drink:drank drunk|eat:ate eaten|sleep:slept|fight:fought|catch:caught"
    "|throw:threw thrown|steal:stole stolen|bear:bore born|ride:rode ridden|shoot:shot|strike:struck|bind:bound|hide:hid hidden|feed:fed"
    "|lend:lent|bend:bent|wake:woke woken|lay:laid|lie:lay lain"
)
IRREGULAR = {form: base for base, _, forms in (line.partition(":") for line in FORMS.split("|")) for form in forms.split()}
