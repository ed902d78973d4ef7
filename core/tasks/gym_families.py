"""What is known of reasoning-gym's families: which are refused and why, their domains, the form of their answers, their evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping

from core.types import Domain

NO_ANSWER = "its items carry no answer, so that its scorer can't be tried with a right one"
HASHED = "its items depend on the interpreter's hash seed, so that an index doesn't make the same item again"

REFUSED: Mapping[str, str] = {
    "boxnet": NO_ANSWER,
    "codeio": "its items run code that reads the clock, so that an index doesn't make the same item again",
    "coin_flip": "its scorer gives 0 full marks where the probability is small",
    "composite": "it is a mixture of other families: draw from those",
    "game_of_life_halting": "its scorer gives any answer that isn't empty full marks",
    "graph_color": NO_ANSWER,
    "isomorphic_strings": HASHED,
    "knight_swap": HASHED,
    "polynomial_multiplication": HASHED,
    "propositional_logic": NO_ANSWER,
    "puzzle24": "its scorer rounds down, and takes any four numbers in place of those given",
    "ransom_note": HASHED,
    "rubiks_cube": NO_ANSWER,
    "rush_hour": NO_ANSWER,
    "word_ladder": HASHED,
}

DOMAINS: Mapping[str, Domain] = {
    "algebra": Domain.MATH,
    "arithmetic": Domain.MATH,
    "geometry": Domain.MATH,
    "probability": Domain.MATH,
    "algorithmic": Domain.CODE,
    "code": Domain.CODE,
}  # all other categories are puzzles: logic

# The scorers of these families take more than one answer, and find out whether it holds.
RECOMPUTED = frozenset(
    (
        "countdown",
        "cryptarithm",
        "intermediate_integration",
        "jugs",
        "kakurasu",
        "n_queens",
        "palindrome_generation",
        "quantum_lock",
        "shortest_path",
        "simple_integration",
        "sokoban",
        "tower_of_hanoi",
    )
)

NUMBER = r"[-+]?\d{1,30}(?:\.\d{1,30})?"
FUNCTIONS = "sin|cos|tan|sec|csc|cot|asin|acos|atan|sinh|cosh|tanh|exp|log|sqrt|pi"
CALCULUS = (
    rf"(?:(?:{FUNCTIONS})(?![A-Za-z])|[A-Za-z](?![A-Za-z\d])|\d{{1,12}}(?:\.\d{{1,12}})?(?![\d.])|\*\*(?=\(?-?\d{{1,2}}(?!\d))|[+\-*/() ])"
)
SAID = "[A-Za-z]{1,30} is an? [a-z]{1,30}"
MOVE = r"Move disk \d+ from Peg \d+ to Peg \d+"
ONE_CALCULUS = rf"(?=.{{1,400}}$)(?!.*\*\* *(?:\w+|\([^()]*\)) *\*\*){CALCULUS}+"

# The form an answer must have before its scorer sees it. Some scorers pick an answer out of any text; others evaluate it.
FORMS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(form, re.ASCII)
    for name, form in {
        "advanced_geometry": r"[^,]{1,60}(?:,[^,]{1,60})?",
        "binary_matrix": r"[\d\s]+",
        "complex_arithmetic": r"[-+().\dij ]{1,80}",
        "countdown": r"(?!.*(?:\*\*|//|\d{7}))[\d+\-*/() ]{1,200}",
        "fraction_simplification": r"\$?\\(?:frac|dfrac) ?\{ ?\d+ ?\} ?\{ ?\d+ ?\}\$?|\$?\d+ ?/ ?\d+\$?",
        "game_of_life": r"[\[\]\d,\s]+",
        "intermediate_integration": ONE_CALCULUS,
        "kakurasu": r"[01\s]+",
        "knights_knaves": rf"{SAID}(?:(?:, and | and |, |\. ?){SAID}){{0,30}}\.?",
        "n_queens": r"[_Q \n]+",
        "polynomial_equations": rf"{NUMBER}(?:, ?{NUMBER})*",
        "prime_factorization": r"\d+(?: ?× ?\d+)*",
        "quantum_lock": r"[ABC](?: ?(?:→|->|,)? ?[ABC])*",
        "simple_integration": ONE_CALCULUS,
        "sokoban": r"[UDLR]+",
        "spiral_matrix": r"[\d ]+",
        "string_insertion": r"[A-Z]+",
        "survo": r"[\d\s-]+",
        "time_intervals": r"-?\d+(?: days?)?|(?:-?\d+ days?, )?\d+:\d\d(?::\d\d(?:\.\d+)?)?",
        "tower_of_hanoi": rf"{MOVE}(?:\s+{MOVE})*",
    }.items()
}

# The scorers of these families give full marks to more than what is right; their PASS must also be the expected answer, as text or
# number by number. Any other answer with full marks can't be told.
SAME_TEXT = frozenset(("figlet_font", "game_of_life", "letter_jumble", "spell_backward", "word_sorting"))
SAME_NUMBERS = frozenset(("calendar_arithmetic", "decimal_arithmetic", "gsm_symbolic", "number_format", "number_sorting", "pool_matrix"))

PRINTING = frozenset(("bf",))  # it prints while it makes an item
SIZED = frozenset(("acre", "gsm_symbolic", "list_functions"))  # their items are laid out for a data set of a certain size

# The step of its curriculum that stands for each of the four levels, where that isn't the level's own: beyond it an item takes seconds or
# thousands of characters, or the step can't be configured.
STEPS: Mapping[str, tuple[int, int, int, int]] = {
    "bf": (0, 1, 1, 1),
    "binary_matrix": (0, 1, 2, 2),
    "caesar_cipher": (0, 1, 1, 1),
    "futoshiki": (0, 1, 2, 2),
    "game_of_life": (0, 1, 1, 1),
    "jugs": (0, 1, 1, 1),
    "modulo_grid": (0, 0, 2, 2),
    "number_sorting": (0, 0, 1, 1),
    "rotate_matrix": (0, 1, 2, 2),
    "sokoban": (1, 1, 2, 3),
    "spiral_matrix": (0, 1, 2, 2),
    "survo": (0, 1, 1, 1),
    "tower_of_hanoi": (0, 1, 2, 2),
    "zebra_puzzles": (0, 1, 1, 1),
}
LEVELS = (0, 1, 2, 3)
