"""Evidence in problems set: forms of text, puzzles, proofs, mathematics, plans and programs.

Hides the words that such tasks use. Letters like x and n are words here, since a formula is
little else.
"""

from modelspend.evidence import counted, phrase, words

LETTER_FORM = phrase(
    "a form of letters",
    "acrostic acrostics palindrome palindromes palindromic lipogram alliteration alliterative "
    "anagram anagrams pangram tautogram abecedarian mesostic univocalic letter letters alphabet "
    "vowel vowels consonant consonants syllable syllables alphabetical",
    r"acrostic|palindrom|lipogram|alliterat|anagram|pangram|tautogram|abecedar|mesostic|univocalic"
    r"|letters? (?:of|in|per|from|[a-z]\b|\W[a-z]\W)|(?:vowel|consonant|syllable)s? "
    r"|(?:first|last|same|initial|next|each|every|consecutive|different|capital|final|starting"
    r"|following) (?:\w{1,20} )?(?:letter|vowel|consonant|syllable)|alphabet",
    scope="ends",
)
UNITS = words(
    "parts of the text",
    "line lines sentence sentences word words paragraph paragraphs stanza stanzas poem verse spell "
    "spells spelling verses name text letters bullet bullets",
    scope="ends",
)
BOUND = words(
    "a rule on every part",
    "each every all only starts start starting begins begin beginning ends end ending consecutive "
    "must without using contains contain same next previous spells spell spelling read reads first "
    "last successive exactly least any never no by that",
    scope="ends",
)
WRITE = words(
    "something to write",
    "write compose generate create answer response respond reply craft produce poem story essay "
    "paragraph make construct output include give tell describe explain list use should",
    scope="ends",
)
PARTS_TIED = phrase(
    "parts tied to one another",
    "each every no next previous following consecutive adjacent successive alternate alternating "
    "increasing decreasing ascending descending last first second all per number before",
    r"(?:no two|next|previous|preceding|consecutive|successive|adjacent|alternating|subsequent"
    r"|following) (?:\w{1,20} ){0,2}?"
    r"(?:words?|sentences?|lines?|paragraphs?|stanzas?|letters?|verses?)\b"
    r"|(?:each|every|all|second|third) (?:\w{1,20} ){0,3}?"
    r"(?:words?|sentences?|lines?|paragraphs?|stanzas?|verses?)\b[^.?!]{0,50}?\b(?:start|begin|end"
    r"|longer|shorter|same|increas|one more|alternat|palindrom|than the|as the (?:one|last|prev))"
    r"|(?:last|first|final) (?:word|letter|sentence|\w{1,20} words?)s? (?:of|in|on|from)\b"
    r"|(?:increasing|decreasing|ascending|descending|alternating) (?:\w{1,20} ){0,4}?"
    r"(?:words?|letters?|sentences?|length)\b"
    r"|(?:words?|letters?|syllables?|sentences?|length) (?:\w{1,20} ){1,5}?"
    r"(?:increas|decreas|grow|shrink|doubl|alternat)",
    scope="ends",
)
PROGRESSION = words(
    "how they are tied",
    "increasing increase increases ascending descending decreasing alternate alternates "
    "alternating longer shorter previous preceding consecutive successive adjacent progressively "
    "increment incrementally next start starts begin begins beginning end ends ending exactly "
    "equal same repeat repeated repeating more fewer vowel vowels consonant consonants syllables "
    "alliterative alliteration palindrome palindromes prime fibonacci odd even unique reverse",
    scope="ends",
)

PLACES = words(
    "places in an order",
    "left right between next adjacent above below older newer oldest newest youngest taller "
    "tallest shorter shortest heavier cheapest expensive immediately leftmost rightmost ranked "
    "finished higher lower opposite beside neighbor neighbors first second third fourth fifth last "
    "before after ahead behind north south east west top bottom fewer faster slower sits seated "
    "directly middle end",
    3,
)
EXCLUSIVE = words(
    "one each",
    "each exactly only different distinct unique none no either neither arranged fixed order row "
    "houses house same respectively one both cannot must seats positions floors floor not three "
    "four five six seven eight",
    2,
)
WHICH_ASKED = words(
    "which one",
    "who which what where whose options choices determine order arrange true follows statement "
    "solve possible conclude",
    scope="ends",
)
CLUES = words(
    "clues or rules given",
    "clue clues constraint constraints conditions rules puzzle premises facts hints riddle "
    "statements requirements restrictions logically consistent given following",
)
KIN = words(
    "kinship",
    "father mother brother brothers sister sisters son sons daughter daughters uncle aunt cousin "
    "grandfather grandmother niece nephew husband wife siblings child children",
    2,
)
KIN_ASKED = phrase(
    "a kinship asked",
    "how what who",
    r"how many (?:brother|sister|sibling|son|daughter|child|cousin)|\brelat(?:ed|ion|ionship)\b"
    r"|who is",
)
SHARED = words("shared by several", "each of is has")
TURNS = words(
    "turns and directions",
    "left right north south east west facing turn turns turned forward backward clockwise steps "
    "step behind ahead shadow overtake overtaken overtook pass passed front position opposite",
    2,
)
PLACE_ASKED = phrase(
    "where one stands",
    "where which what position direction return facing",
    r"which (?:direction|way|side)|what (?:is|'s)? ?(?:\w{1,20} ){0,3}?(?:position|direction|place)"
    r"|return to the|where (?:is|are|am|was|will|do)|starting (?:point|position)"
    r"|facing\b[^.?!]{0,20}\?",
)
WALKER = words("one who moves", "if you i he she they standing walks takes")

PROOF_ASKED = phrase(
    "a proof asked",
    "prove proof proofs disprove show demonstrate derive refute verify induction justify rigorous "
    "proves",
    r"\b(?:dis)?prove\b|\bproofs?\b|\b(?:show|demonstrate|verify|derive|justify)(?: \w{1,20})? "
    r"(?:that|the|why|whether|if)\b|induction|rigorous",
)
OBJECTS = words(
    "mathematical objects",
    "theorem integers integer prime primes irrational rational infinitely convergent converges "
    "continuous function functions sets set group groups graph graphs matrix matrices inequality "
    "bijection contradiction real numbers sum triangle sequence polynomial lemma vertices vertex "
    "edges finite infinite even odd divisible logic axiom axioms formula equation equivalent "
    "limit field ring subset vector eigenvalue eigenvalues squares square root sqrt complexity "
    "conjecture divides algorithm",
)
VALIDITY = words(
    "words of validity",
    "valid invalid premises premise follows follow entail entails entailed entailment conclusion "
    "conclude deduce deductively syllogism argument implies imply implied necessarily logically "
    "hypothesis inference infer contradiction unknown uncertain",
    2,
    scope="ends",
)
VALIDITY_ASKED = phrase(
    "validity asked of what is given",
    "valid invalid follow follows entail entails entailed imply implies deduce conclude argument",
    r"argument[^.?!]{0,80}?\b(?:valid|invalid|sound)"
    r"|does (?:it|this|that) (?:\w{1,20} ){0,2}?follow"
    r"|(?:logically|necessarily) (?:follow|true|entail|imply|impl)"
    r"|\b(?:in)?valid (?:\w{1,20} )?(?:argument|inference|deduction|conclusion|syllogism)"
    r"|premises?\b[^.?!]{0,80}?(?:entail|follow|imply)"
    r"|(?:can|what) (?:we|be|you|one|i) (?:\w{1,20} )?(?:conclude|deduce|infer)"
    r"|hypothesis[^.?!]{0,60}?(?:true|entail|follow)",
)
CONCLUDED = words(
    "a conclusion drawn",
    "therefore thus hence conclusion so then since consequently premises premise statement "
    "statements",
)
QUANTIFIERS = words(
    "quantifiers",
    "all every some no none any not only whoever nobody everyone everything if neither nor either "
    "someone never always nothing anyone being least",
    2,
)

MATH = words(
    "terms of mathematics",
    "polynomial triangle circle radius integer integers perpendicular equation equations root "
    "roots digits digit divisor divisors probability sequence modulo remainder perimeter area "
    "vertices matrix vector vectors logarithm coefficient coefficients arithmetic geometric prime "
    "primes factor factors factorial divided divisible positive real function graph parabola "
    "hexagon square rectangle cube sphere volume angle angles tangent sine cosine inscribed "
    "midpoint segment permutations combinations randomly product sum solutions solution multiple "
    "multiples fraction denominator expression evaluate simplify inverse distinct decimal base "
    "median mean consecutive intersect axis slope degrees units odd even plane chord diagonal "
    "diagonals inequality domain range integral derivative degree complex cubic quadratic least "
    "greatest common x y z n expected dice die eigenvalue limit theorem",
    2,
)
RESULT_ASKED = phrase(
    "a result to find",
    "find compute evaluate calculate determine solve simplify express many value what prove "
    "smallest largest probability show",
    r"find|comput|evaluat|calculat|determin|solv|simplify|express|factor|expand|prove|how many"
    r"|what (?:is|are|was|fraction|percent|value)\b|values? of|smallest|largest",
)
NOTATION = counted("notation", 3)
FORMULAS = phrase(
    "formulas",
    "x y z n a b f p k m i",
    r"[a-z0-9)]\s?[=^<>]\s?[-(a-z0-9|]|\bf\(|\d\s?[a-z]\s?[-+]|\\|\bsqrt",
    scope="ends",
)
EQUATION = phrase(
    "an equation given",
    "x y z n f g a b",
    r"\bf\(\w{1,20}\) ?=|[a-z0-9)] ?[=<>] ?[-(0-9a-z\\]|\^\d",
    scope="ends",
)
AMOUNTS = counted("numbers", 3)
QUANTITY_ASKED = phrase(
    "a quantity asked",
    "how much many total percent percentage average cost long old far money earn fraction amount",
    r"how (?:many|much|long|old|far|fast|tall|heavy|big|large|often)"
    r"|what (?:is|was|are|were|will be|percent|percentage|fraction)[^.?!]{0,60}?(?:total|average"
    r"|cost|price|amount|number|profit|sum|percent|ratio|age|time|distance|speed|revenue|salary"
    r"|probability|value|difference)|what (?:percent|percentage|fraction)|calculate|estimate",
)
RELATED = words(
    "quantities related",
    "each every per twice half times more less fewer than remaining left total altogether then "
    "after rest percent double doubled triple third quarter additional another sold bought spends "
    "spent pays paid costs cost gives gave discount split shared equally remainder rate interest "
    "hour hours minutes day days week weeks month year years mph km miles price average both sum "
    "away used uses earns makes",
    3,
)
ESTIMATED = words(
    "an estimate reasoned out",
    "average estimate approximately roughly typical lifetime entire world year population fermi "
    "explain step reasoning assumptions per day fit",
    3,
)
HOW_MANY = phrase("how many", "many much", r"how (?:many|much)\b")
REASONED = phrase(
    "the reasoning wanted",
    "explain explanation estimate reasoning assumptions approximately step roughly justify",
    r"explain (?:\w{1,20} ){0,2}?(?:answer|reasoning|thinking|assumption)|explanation|estimate"
    r"|reasoning|assumptions|step[- ]by[- ]step|justify|approximately|roughly",
    scope="ends",
)

ACTIONS = words(
    "actions to order",
    "plan plans planning actions action steps moves move sequence schedule itinerary route routes "
    "strategy blocks crossing cross deliver visit assign allocate trip tour operations stack "
    "unstack logistics warehouse roadmap load unload drive",
    2,
    scope="ends",
)
CONDITIONS = words(
    "what an action requires",
    "cannot must only once until unless initial initially restrictions constraint constraints "
    "precondition preconditions before without limit capacity exceed maximum minimum fewest "
    "shortest optimal budget allowed forbidden legal never deadline available conflict conflicts "
    "overlap least most holding empty no",
    2,
)
GOAL = words(
    "a goal to reach",
    "goal goals reach achieve achieves objective target end final such that so satisfy satisfies "
    "satisfying meet meets all complete minimize maximize optimize get gets need needs want",
    2,
)
BUILD = words(
    "something to build",
    "write implement develop design create build optimize code program given refactor make",
    scope="ends",
)
ARTEFACT = words(
    "a program",
    "function program algorithm script class code python java javascript c++ rust sql method "
    "implementation structure query api server app application compiler parser simulation website",
    scope="ends",
)
DEMANDS = words(
    "demands on it",
    "efficient efficiently complexity optimal optimized dynamic recursive recursion time space "
    "array arrays string strings tree graph sorted input output minimum maximum common largest "
    "smallest node nodes binary list lists linked longest shortest matrix integers concurrent "
    "thread parallel distributed cache scalable lock hash median subsequence occurrences returns "
    "edge cases number numbers sum index constraints files directory parallelism words",
    2,
    scope="ends",
)
