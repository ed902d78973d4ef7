"""Kinds of words, so that a question about an `antiderivative` needs no example with that word in it.

What a kind is worth, and for which domain, is learned from the examples; a word may be of several kinds.
"""

from __future__ import annotations

import re

MOST_WORDS = 3
WORD = re.compile(r"[^\W\d_][\w+#]*")


def find_kinds(text: str) -> set[str]:
    """Kinds of words in a lower-case text, by how many it has: `logic > 2` says at least two. Plurals in -s count as their singular."""
    words = set(WORD.findall(text))
    words.update([word[:-1] for word in words if len(word) > 3 and word[-1] == "s"])
    return {f"{kind} > {n}" for kind, group in KINDS.items() for n in range(1, min(len(words & group), MOST_WORDS) + 1)}


KINDS: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "mathematics": """
            ableitung add addiere addition aire algebra algebraic altitude angle antiderivative apothem area arithmetic asymptote
            berechne binomial bisector bruch calcula calculate calcule calculer calculus chord circle circumference circumscribed
            coefficient combien combination compute cone congruent converge convergent coordinate cos cosecant cosine cotangent cross
            cube cubic cylinder decagon decimal degree denominator derivada derivative determinant diagonal diameter difference
            differentiate differenz digit dimension discriminant divide divided dividend dividiert divisible divisor dx dérivée ecuación
            eigenvalue eigenvector ellipse equation equilateral even exp exponent exponential expression factor factorial factorise
            factorize fläche frac fraction gcd geometric geometry geteilt gleichung gradient half height hexagon hexagonal hyperbola
            hypotenuse identity imaginary improper inequality infinity inscribed int integer integral integrate intercept intersect
            intersection interval inverse irrational isosceles kite lcm least lim limit linear ln log logarithm maclaurin mal matrix
            midpoint minus mod modulo modulus multiple multiplicado multiplied multiplié multiply numeral numerator octagon odd operand
            parabola parallel parallelogram pentagon percent percentage perimeter permutation perpendicular pi plus polygon polyhedron
            polynomial power prime prism probability product proportional prozent pyramid périmètre quadrat quadratic quadratwurzel
            quadrilateral quarter quotient racine radian radius ratio rational raíz reciprocal rectangle rectangular recurring remainder
            resuelve rhombus root rounded résous scalar secant segment semicircle sequence series simplify sin sine slope somme sphere
            sqrt square squared subset subtract subtraction sum suma summe surd symmetric tan tangent tens tenth term theorem theta third
            times trapezium trapezoid triangle trigonometric trinomial twice unknown variable vector vertex vertices volume
            wahrscheinlichkeit wievel wurzel área équation
        """,
        "quantities": """
            age altogether bag bill borrow borrowed bought budgeted buy buys cent change charge cheaper combien cost costs cover covers
            coûte cuesta cup day deposit discount distance dollar dozen drive driven drives each earn earned earns eaten equally euro
            fare feet fill fills flour fuel gallon gave gives gram heads hectare heures horas hour hourly hundred inch inches interest
            jar journey kg kilogram kilometer kilometre km kostet kph lap leak left legs length lent liter litre loan lose loses lost
            marbles meet meter metre mile minute ml mph needed ounce owe packet paid pay pays pence per petrol pint pipe pool pound price
            profit quart queda rate recipe remain remaining reste rides runs salary save saved saves savings seats second sells share
            shelf slice sold speed spend spends spent stunden tank tap tax ticket tip together ton total travel travelled travels usual
            walks week weigh weighs width worker works worth yard äpfel übrig
        """,
        "languages and tools": """
            ada ajax android angular ansible apache api apt arduino asm asp assembler assembly awk aws azure babel bash boost bootstrap
            c++ cargo clang clojure cmake cmd cobol composer conda cron crontab csharp css cuda curl cython d3 dart dataframe debian
            delphi deno django docker dockerfile dom dotnet dplyr eclipse elixir elm emacs erlang eslint express fastapi firebase flask
            flexbox flutter fortran fsharp gcc gdb gin git github gitlab goroutine gradle graphql grep groovy gulp hadoop haskell helm
            heroku hibernate html htmx http https intellij ipython java javascript jenkins jest jira jquery js json jsx julia junit
            jupyter jvm jwt kafka keras kotlin kubectl kubernetes laravel latex linux lisp lodash lua makefile matlab matplotlib maven
            mongo mongodb mypy mysql neovim nginx node nodejs nosql npm npx nuget numpy oauth ocaml opencv openssl oracle pandas pascal
            perl php pip pip3 plsql poetry postgres postgresql powershell prisma prolog pydantic pygame pytest python python3 pytorch qt
            rails react redis redux regex regexp rspec ruby rust rustc sass scala scheme scikit scipy scss selenium shell sklearn spark
            spring sql sqlalchemy sqlite ssh stdin stdout svelte swift swiftui systemd tailwind tcl tensorflow terraform tkinter tmux
            toml ts tsx typescript ubuntu unity unix vagrant vba verilog vhdl vim visual vscode vue webpack windows wordpress xcode xml
            yaml yarn yml zsh
        """,
        "programming": """
            abstract accessor algorithm alias allocate annotation app applet archivo arg args argument array assert assertion async
            asynchronous attribute await backend backtrace base64 benchmark binary bit bitwise bool boolean boucle branch breakpoint
            broadcast bucle buffer bug bugfix build bundle byte cache cadena callback casting char chaîne class classe classname cli
            client clone closure code codebase coding commit compile compiled compiler compiles concatenate concurrency config configure
            const constructor container cookie coroutine cors crash crashes crud csv cursor código daemon database dataclass datatype
            datei datetime deadlock debug debugger debugging decode decorator decrement def default delete dependency deploy deprecated
            deque dereference deserialize destructor dict dictionary directory div django dockerize docstring elif else emulator encode
            encoding endpoint enum env environment erreur error exception exec executable export fehler fehlermeldung fetch fichier field
            file filename firewall float folder fonction framework frontend func función function funktion garbage generator generic
            getter global hash hashing hashmap header heap hook host hostname http ide if immutable implement implementation import
            indent indentation index indexing inheritance init initialise initialize inline input insert instance instantiate int integer
            interface interpreter invalid iterable iterate iteration iterator join kernel keyword klasse lambda lexer lib library linked
            linker lint list localhost lock log logger login loop macro main malloc map memory merge method middleware migration minify
            mock module multithreading mutable mutex namespace nested nonetype null nullable nullpointer object oop opcode operator
            optional orm output overflow overload override package param parameter parse parser parsing patch path pattern permission
            pipeline pixel plugin pointer polymorphism pop popup port print printed printf prints procedure process profiler program
            programa programm programme programmer promise prompt property prototype proxy pull push query queue raise raises read
            recursion recursive recursively refactor reference regex register release render repo repository request response return
            returned returns rollback router runtime schema schleife scope scraper script sdk segfault segmentation select semaphore
            serialize server session set setter singleton sketch skript slice snippet socket software sort source splice stack stacktrace
            startup state statement static stderr stdin stdlib strcpy stream string struct subclass submodule subprocess subroutine
            substring switch syntax table tableau tag template terminal test tests thread throw throws timeout timestamp token tokenizer
            traceback trigger try tuple type typecast undefined unicode unit unittest update upload url username utf utf8 validate
            validation variable vector version virtual void webhook webpage webserver website websocket while widget wrapper xor
            zeichenkette zeile
        """,
        "logic": """
            absurdum affirming always ambiguous analogy antecedent antisymmetric argument assertion assume assumption axiom barber
            biconditional bivalent boolean both cannibal cannot clue clues coherent compatible conclude conclure conclusion conclusions
            conclusión concluye conditional conjunction conjunctive connective consequent consistency consistent contingent contradict
            contradiction contradictory contradicts contraposition contrapositive converse counterexample countermodel cryptarithm
            culprit deduce deduced deducir deduction deductive demorgan denying detective dilemma disjunction disjunctive déduire either
            entail entailed entailment entails equivalence equivalent exactly existential fallacies fallacious fallacy false falsehood
            folgerung folgt follow follows formalise formalize guard guards guilty gültig iff implication implies imply incompatible
            inconsistent infer inference inferred innocent invalid inverse islander knave knaves knight knights labelled lazzies liar
            liars lie lied lies logic logical logically logisch lying mislabelled modus morgan murderer necessarily necessary negate
            negated negation neighbour neither nobody none nor only paradox paradoxical ponens possible predicate premise premises
            proposition propositional proven prämisse puzzle quantified quantifier reasoning reductio reflexive refute resolution riddle
            river satisfiability satisfiable satisfies schluss seating sentence sound soundness statement statements straw sudoku
            sufficient suppose suspect suspects switches syllogism symmetric tautology thief tollens transitive true truth truthful
            truthteller unless unsatisfiable unsound vacuous valid valide validity válida válido weighing weighings widerspruch wins
            zebra
        """,
        "kinship": """
            aunt brother cousin daughter father granddaughter grandfather grandmother grandson husband mother nephew niece related
            sibling sister son uncle wife
        """,
        "position": """
            above ahead behind below beside between east facing friday front house houses last left leftmost middle monday neighbour next
            north opposite outermost queue right rightmost row saturday seat seated sit sits sitting south stand standing stands sunday
            thursday tomorrow tuesday wednesday west yesterday
        """,
        "world": """
            africa african alps america american ancient animal antarctica arctic aristotle army art asia asteroid astronaut astronomer
            atlantic atmosphere atom australia austria author bacteria bacterium balkans battle beethoven berlin biology bird blood bone
            bones border borders born brain brazil bridge britain british buddha building built caesar canada capital capitale castle
            cathedral cell century chancellor chemical chemist chemistry china chinese christ christian church cities citizen city civil
            climate coast colonies colony columbus comet composed composer conquered constitution continent continents coronation
            countries country cricket crusade culture currency cuándo czar darwin democracy density descubrió desert died dinosaur
            dinosaurs discovered discovery disease dna dynasty découvert earth earthquake earthquakes eclipse economy egypt einstein
            elected election electron element elements elephant elephants emperor empire energy england english enzyme equator era erfand
            erfunden euro europe european evolution explorer extinct famous federal film finland flag flower football forest founded
            founder france french fruit galaxy galileo gas gegründet german germany glacier god goethe gold government gravity greece
            greek guerra guerre habitat hauptstadt headquarters heart hemisphere historian historical history holy human hydrogen iceland
            independence independent india indian inhabitants insect insects invented inventor inventó ireland iron island italian italy
            jahrhundert japan japanese jupiter kafka kangaroo king kingdom krieg könig lake language languages largest latin law league
            legend light lion liver location longest lungs mammal mammals mammoth mars medal medieval mediterranean mercury metal mexico
            minister molecule monarch monarchy monument moon moons mountain mozart museum musician nasa nation national nations nato nazi
            neutron nobel norway novelist nuclear nucleus ocean oceans olympic olympics organ organs oxygen pacific painted painter
            parliament pays país peninsula philosopher photosynthesis physicist physics planet planets plant plants poet poland polar
            pole pope population portugal president prime prince protein pyramid pyramids quand queen rainforest reformation region reign
            religion renaissance republic revolution rey river rivers roi roman rome rule ruled ruler russia russian saturn schrieb
            scientist scientists sea senate shakespeare siglo signed siècle skeleton soil solar soviet spain spanish species spoken sport
            star stars state states sun surface symbol symptoms telescope temperature territory tides tournament treaty trophy tsar
            turkey un universe uranus vaccine vaccines vatican venus vikings virus viruses vitamin volcano volcanoes wann war wars
            washington water weather wer whale whales wimbledon ww1 ww2 zebra
        """,
        "tongues": """
            antonym arabic chinese czech danish dutch english finnish french german greek hebrew hindi hungarian icelandic irish italian
            japanese korean latin mandarin norwegian phrase polish portuguese pronounce russian spanish spell swahili swedish synonym
            translate translation turkish vietnamese word
        """,
        "passage": """
            according answer article below context following paragraph passage question read sentence text
        """,
        "writing": """
            absurd acrostic adjective adventure alliteration anecdote anthem aphorism atmosphere autumn backstory ballad bard bedtime
            beginning birthday blague blog brainstorm campfire canción caption card carol catchphrase catchy chanson chapter character
            characters charming chiste chorus christmas cinderella comedy comic compose condolence conte conversation couplet create
            creative creature cuento cute cuéntame describe dialogue diary dichte draft dragon dragons dream dreamy elegy email enchanted
            ending epic epigram epilogue epitaph erfinde erzähl erzähle escribe essay eulogy evocative fable fairy fairytale fanfiction
            fantasy farewell fiction fictional flash folk folktale free funny gedicht geschichte ghost greeting haiku haikus headline
            heartfelt hero heroine histoire historia horoscope horror humorous hymn idea ideas imaginary imaginative imagine imagined
            inspiring intro invent inventa invente invitation jingle joke jokes journal legend letter lied limerick line lines lullaby
            lyric lyrical lyrics magic magical melancholy memoir mermaid metaphor metaphors monologue monster mood motto mysterious
            mystery myth märchen name names narrate narrative narrator nickname novel novella nursery ode opening pamphlet paragraph
            parody pastiche pen persona perspective pirate play playful plot poem poema poems poetic poetry postcard poème pretend
            princess prologue prompt prose proverb pun puns quest quirky quote raconte rap recipe refrain reim rephrase reply retell
            reword rewrite rhyme rhymed rhymes rhyming riff robot romance romantic saga satire satirical scary scene schreib schreibe
            screenplay scribble script sensory sequel setting shanty short silly simile similes sitcom skit slogan slogans song songs
            sonnet sonnets speech spell spooky spruch stanza stanzas stories story storyteller style surreal suspense suspenseful tagline
            tale tales tender theme thriller title titles toast tone tragedy trailer tribute tweet twist unicorn utopia vampire verse
            verses villain villanelle vivid voice vow whimsical wish wistful witch witty witz wizard words write wrote écris
        """,
        "data": """
            anomalies anomaly average baseline benchmark bounce budget categories category cell chart charts churn cohort column columns
            conversion correlate correlated correlation count csv customer customers dashboard data dataset daten datos decline deviation
            diagram distribution données effect employee employees encuesta entries entry error figure figures forecast frequency funnel
            gdp graph group groups growth highest histogram income increase index kpi kpis lowest margin market maximum mean measurement
            measurements median metric metrics minimum mode month monthly mrr numbers observations outlier outliers participants
            percentage percentile performance plot population quantile quarter quarterly quartile rank ranking rate rates rating ratings
            record records region regional regression respondents results retention revenue revenues row rows sales sample scatter score
            scores sentiment series shares significance significant sold spending spreadsheet statistic statistical statistics
            subscribers survey surveys tabelle tabla table tableau tables target total totals traffic trend trends turnover umsatz
            umsätze unemployment users value values variance variation ventas ventes verkauf visitors visits weekly year yearly yoy
        """,
        "judging": """
            advantage advantages against analiza analyse analysed analyses analysiere analysing analysis analyst analytical analyze
            analyzing appraisal approach argument arguments article assess assessing assessment assumption assumptions author authors
            avantages benefit benefits bewerte bias biased brief case causes claim claims comment comments compara compare compared
            comparing comparison complaints conclude conclusion conclusions condense cons consequence consequences convincing credibility
            credible criteria critical critically criticise criticism critique debate decide decision desventajas differ difference
            differences disadvantage disadvantages discuss discussion downsides draw drawbacks drivers effect effectiveness effects essay
            evaluate evaluating evaluation evidence examine explain explanation extract factor factors fasse feasibility feedback
            findings gap highlights hypothesis identify impact implication implications improve improvement inconvénients insight
            insights intention interpret interpretation interview issue issues judge justify key lessons limitations main meeting memo
            merits message method methodology minutes motif motifs nachteile notes objections opinion option options overview paper
            paragraph passage pattern patterns perspective pestle plan plausible points policy position proposal pros purpose quality
            rate rating recommend recommendation recommendations relationship relevance reliability reliable report reports research
            resume resumen review reviews rhetoric rhetorical risk risks root résume résumé scenario sides similarities source speech
            stakeholder stakeholders strategic strategies strategy strength strengths strong structure studies study sum summaries
            summarise summarised summarize summarized summary support supported swot symbolism takeaway takeaways text theme themes
            thesis tldr tone tradeoff tradeoffs transcript validity ventajas vergleich vergleiche versus viable viewpoint vorteile vs
            weak weakness weaknesses weigh worth zusammen zusammenfassung
        """,
        "business": """
            acquisition advertising agency b2b branch brand business campaign channel client cloud companies company competitor
            competitors cost costs department expansion expenses firm hire hiring industry invest investment investors launch loss
            manager marketing onboarding outsourcing portfolio pricing product productivity products profit profitability roi savings
            segment segments startup strategy subscription supplier suppliers team teams tourism trade vendor workforce
        """,
    }.items()
}
