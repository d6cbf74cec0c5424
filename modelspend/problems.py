"""Evidence in problems set: forms of text, puzzles, proofs, mathematics, plans and programs.

Hides the words that such tasks use. Letters like x and n are words here, since a formula is
little else.
"""

from modelspend.evidence import counted, openings, phrase, words

LETTER_FORM = openings(
    "a form of letters",
    "backwards backward acrostic acrostics palindrome palindromes palindromic lipogram "
    "alliteration alliterative anagram anagrams pangram tautogram abecedarian mesostic "
    "univocalic letter letters alphabet vowel vowels consonant consonants syllable syllables "
    "alphabetical",
    r"acrostic|palindrom|lipogram|alliterat|anagram|pangram|tautogram|abecedar|mesostic|univocalic"
    r"|letters? (?:of|in|per|from|[a-z]\b|\W[a-z]\W)|(?:vowel|consonant|syllable)s?\b"
    r"|reads? (?:exactly )?the same"
    r"|(?:first|last|same|initial|next|each|every|consecutive|different|capital|final|starting"
    r"|following) (?:\w{1,20} )?(?:letter|vowel|consonant|syllable)|alphabet",
    scope="ends",
)
FORM_NAMED = words(
    "a form of letters by name",
    "acrostic acrostics lipogram palindrome palindromes pangram anagram anagrams tautogram "
    "abecedarian mesostic alliterative alliteration tongue-twister",
    scope="ends",
)
COMPOSE = words("something to compose", "write compose create craft generate invent", scope="ends")
UNITS = words(
    "parts of the text",
    "line lines sentence sentences word words paragraph paragraphs stanza stanzas poem verse "
    "spell spells spelling verses name text letter letters bullet bullets answer haiku",
    scope="ends",
)
BOUND = words(
    "a rule on every part",
    "each every all only starts start starting begins begin beginning ends end ending "
    "consecutive must without using contains contain same next previous spells spell spelling "
    "read reads first last successive exactly least any never no by that whose form forms",
    scope="ends",
)
WRITE = words(
    "something to write",
    "write compose generate create answer response respond reply craft produce poem story essay "
    "paragraph make construct output include give tell describe explain list use should sentence",
    scope="ends",
)
PARTS = words(
    "parts that can be tied",
    "word words sentence sentences line lines paragraph paragraphs stanza stanzas letter letters "
    "verse verses bullet bullets syllables",
    scope="ends",
)
PARTS_TIED = openings(
    "parts tied to one another",
    "sentences lines words paragraphs each every no next previous following consecutive adjacent "
    "successive alternate alternating increasing decreasing ascending descending last first "
    "second all per number before increase increases decrease decreases grow grows double "
    "doubles lengths",
    r"(?:sentences|lines|words|paragraphs) (?:must |should |all )?(?:start|begin|end)s? with"
    r"|(?:no two|next|previous|preceding|consecutive|successive|adjacent|alternating|subsequent"
    r") (?:\w{1,20} ){0,2}?"
    r"(?:words?|sentences?|lines?|paragraphs?|stanzas?|letters?|verses?)\b"
    r"|(?:each|every|all|second|third) (?:\w{1,20} ){0,3}?"
    r"(?:words?|sentences?|lines?|paragraphs?|stanzas?|verses?)\b[^.?!]{0,50}?\b(?:start|begin|end"
    r"|longer|shorter|same|increas|one more|alternat|palindrom|than the|as the (?:one|last|prev))"
    r"|\beach (?:\w{1,20} ){0,2}?(?:start|begin|end)(?:s|ing)? with"
    r"|(?:last|first|final|initial) (?:word|letter|sentence|\w{1,20} words?)s? (?:of|in|on"
    r"|from) (?:the |an? |its "
    r"|any )?(?:each|every|next|previous|preceding|following|one|prior|sentence|line|paragraph|all)"
    r"|(?:increasing|decreasing|ascending|descending|alternating) (?:\w{1,20} ){0,4}?"
    r"(?:words?|letters?|sentences?|length)\b"
    r"|(?:words?|letters?|syllables?|sentences?|length) (?:\w{1,20} ){1,5}?"
    r"(?:increas|decreas|grow|shrink|doubl|alternat)",
    scope="ends",
)
PROGRESSION = words(
    "how they are tied",
    "increasing increase increases ascending descending decreasing alternate alternates "
    "alternating first last longer shorter previous preceding consecutive successive adjacent "
    "progressively increment incrementally next start starts begin begins beginning end ends "
    "ending exactly equal same repeat repeated repeating more fewer vowel vowels consonant "
    "consonants syllables alliterative alliteration palindrome palindromes prime fibonacci odd "
    "even unique reverse",
    scope="ends",
)

ARRANGED = words(
    "things in an order",
    "row arranged arrange order ordered shelf seated seats sit sits lined queue circle ranks "
    "ranked standing floors rows race tournament finished show branch",
)
RELATIVE = words(
    "one relative to another",
    "left right leftmost rightmost adjacent beside next between older newer oldest newest "
    "youngest taller tallest shorter shortest heavier heaviest lighter cheapest expensive above "
    "below ahead behind higher lower faster slower finished",
    1,
)
ENUMERATED = counted("commas", 3)
SUSPECTS = words(
    "suspects",
    "suspect suspects murderer murder murdered culprit alibi alibis detective guilty killer "
    "crime stole robbed theft weapon motive",
    2,
    scope="ends",
)
ALLOCATE = words(
    "an allocation asked",
    "assign assigned allocate allocated allocation match matched pair paired distribute divide "
    "grouped teams",
    scope="ends",
)
TASKS = words(
    "what is allocated",
    "task tasks role roles job jobs person people workers teams team slots shifts rooms seats "
    "partners students employees each",
)
PREFERENCES = words(
    "who may have what",
    "cannot can't must skilled dislikes likes prefers prefer refuses unless available conflict "
    "argue argued trust experience strengths weaknesses constraints only no never afraid",
    2,
)
HOW_CAN = phrase(
    "a way to be found",
    "reach moves weighings tries questions cuts trips crossings how can could determine steps "
    "moves way sequence minimum least fewest smallest",
    r"in how many|can you (?:reach|get|cut|place|cover)"
    r"|(?:steps|sequence of|moves|way) to"
    r"|in (?:\w{1,20} )?(?:weighings|moves|steps|cuts|trips|crossings|questions|tries)"
    r"|how (?:can|could|would|do|should|did|does) (?:you|we"
    r"|he|she|they|one|the|this|it)\b"
    r"|(?:minimum|least|fewest|smallest) number of",
)
LIMITED = words(
    "a limit on the means",
    "never twice only exactly once fewest minimum least allowed cannot trip trips weighings "
    "scale balance pour crossing without",
)
PLACES = words(
    "places in an order",
    "left right between next adjacent above below older newer oldest newest youngest taller "
    "tallest shorter shortest heavier cheapest expensive immediately leftmost rightmost ranked "
    "finished higher lower opposite beside neighbor neighbors first second third fourth fifth "
    "last before after ahead behind north south east west top bottom fewer faster slower sits "
    "seated directly middle end",
    3,
)
ORDER_OF_STEPS = phrase(
    "an order of steps asked",
    "order sequence first steps",
    r"in (?:what|which) order|(?:what|which) (?:order|sequence)|(?:the|what) (?:very )?first step"
    r"|order (?:the|of|in which)",
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
    "how who which what where whose options choices determine order arrange true follows "
    "statement solve possible conclude",
    scope="ends",
)
DEDUCED = openings(
    "a deduction asked",
    "who which what where when work determine figure deduce infer must",
    r"(?:work out|determine|figure out|deduce|infer) (?:which|who|what|when|where|how|the)"
    r"|\b(?:who|which|what|where)\b[^.?!]{0,80}\b(?:must|can have|could have|cannot|latest|earliest"
    r"|youngest|oldest|tallest|shortest|second|third|fourth|guaranteed?|has it|is telling|true)\b",
)
RULES_GIVEN = words("rules of a game", "rules game beats wins rule1 turn", 2, "ends")
ALTERNATIVES = words(
    "causes side by side", "either alone both same would might or other too also already any", 2
)
SUCH_THAT = phrase(
    "a condition on a number", "such exactly ends", r"such that|exactly \d|ends (?:in|with)"
)
RESTRICTIONS = counted("restrictions", 3)
RANK = words("a ranking asked", "rank who which order", scope="ends")
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
    r"|who is|what is the name|how is \w{1,20} related",
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
    "where which what position direction return facing heading coordinates",
    r"heading|coordinates|which (?:direction|way|side)|what (?:is"
    r"|'s)? ?(?:\w{1,20} ){0,3}?(?:position|direction|place)"
    r"|return to the|where (?:is|are|am|was|will|do)|starting (?:point|position)"
    r"|facing\b[^.?!]{0,20}\?",
)
WALKER = words("one who moves", "if you i he she they it robot standing walks takes moves")

PROOF_ASKED = openings(
    "a proof asked",
    "argue argument prove proof proofs disprove show demonstrate derive refute verify induction "
    "justify rigorous proves",
    r"\b(?:dis)?prove\b|\bproofs?\b|show there|argue (?:that|why)|argument (?:that|for|why)"
    r"|\b(?:show|demonstrate|verify|derive|justify)(?: \w{1,20})? "
    r"(?:that|the|why|whether|if)\b|induction|rigorous",
)
OBJECTS = words(
    "mathematical objects",
    "coprime divisor multiple angles bounded monotone compact series countable uncountable "
    "injective surjective isomorphic homomorphism linear independent basis rank determinant "
    "decidable n x y k theorem integers integer prime primes irrational rational infinitely "
    "convergent converges continuous function functions sets set group groups graph graphs "
    "matrix matrices inequality bijection contradiction real numbers sum triangle sequence "
    "polynomial lemma vertices vertex edges finite infinite even odd divisible logic axiom "
    "axioms formula equation equivalent limit field ring subset vector eigenvalue eigenvalues "
    "squares square root sqrt complexity conjecture divides algorithm",
)
VALIDITY = words(
    "words of validity",
    "valid invalid premises premise follows follow entail entails entailed entailment conclusion "
    "conclude deduce deductively syllogism argument implies imply implied necessarily logically "
    "hypothesis inference infer contradiction unknown uncertain",
    2,
    scope="ends",
)
VALIDITY_ASKED = openings(
    "validity asked of what is given",
    "concluded deduced inferred consistent contradictory contradict both conclusion conclusions "
    "valid invalid follow follows entail entails entailed imply implies deduce conclude argument "
    "hypothesis necessarily logically premise premises",
    r"argument[^.?!]{0,80}?\b(?:valid|invalid|sound)"
    r"|does (?:it|this|that) (?:\w{1,20} ){0,2}?follow"
    r"|(?:logically|necessarily) (?:follow|true|entail|imply|impl)"
    r"|\b(?:in)?valid (?:\w{1,20} )?(?:argument|inference|deduction|conclusion|syllogism)"
    r"|premises?\b[^.?!]{0,80}?(?:entail|follow|imply)"
    r"|(?:conclusion|statement)s? (?:\w{1,20} )?(?:follow|must be)|follows? (?:necessarily"
    r"|logically)"
    r"|is it (?:\w{1,20} )?(?:consistent|contradictory|possible)|consistent\?"
    r"|can (?:both|all|they)(?: \w{1,20})? be"
    r"|(?:can|what) (?:we|be|you|one|i) (?:\w{1,20} )?(?:conclude|deduce|infer)"
    r"|hypothesis[^.?!]{0,60}?(?:true|entail|follow)",
)
TRUTH_ASKED = openings(
    "the truth of a statement asked",
    "true false uncertain unknown follow follows hypothesis conclusion statement",
    r"true,? (?:or )?false|\buncertain\b|\bunknown\b|does it follow|follows? from"
    r"|(?:is|are) the (?:statement|hypothesis|conclusion|claim)",
)
BASED_ON = phrase(
    "a question put to rules",
    "based",
    r"based on (?:the |these |this |all )?(?:\w{1,20} )?(?:above|rules|facts|premises|statements"
    r"|information|game|context)[^?]{0,80}?\b(?:is|are|does|do|can|which|what|who)\b",
)
GENERALITIES = counted("generalities", 2)
CONCLUDED = words(
    "a conclusion drawn",
    "therefore thus hence conclusion so then since consequently premises premise statement "
    "statements",
)
QUANTIFIERS = words(
    "quantifiers",
    "all every some no none any not only whoever nobody everyone everything if neither nor "
    "either someone never always nothing anyone being least",
    2,
)

NUMBER_THEORY = words(
    "numbers and figures",
    "determinant matrix integers integer multiples divisible polynomial triangle circle "
    "perpendicular remainder modulo prime primes vertices logarithm coefficients parabola "
    "hexagon inscribed tangent cosine sine probability digits hypotenuse sphere cylinder cone",
)
MATH = words(
    "terms of mathematics",
    "determinant such polynomial triangle circle radius integer integers perpendicular equation "
    "equations root roots digits digit divisor divisors probability sequence modulo remainder "
    "perimeter area vertices matrix vector vectors logarithm coefficient coefficients arithmetic "
    "geometric prime primes factor factors factorial divided divisible positive real function "
    "graph parabola hexagon square rectangle cube sphere volume angle angles tangent sine cosine "
    "inscribed midpoint segment permutations combinations randomly product sum solutions "
    "solution multiple multiples fraction denominator expression evaluate simplify inverse "
    "distinct decimal base median mean consecutive intersect axis slope degrees units odd even "
    "plane chord diagonal diagonals inequality domain range integral derivative degree complex "
    "cubic quadratic least greatest common log ln sqrt sin cos tan altitude hypotenuse legs "
    "isosceles equilateral trapezoid pentagon octagon quadrilateral parallelogram bisector "
    "cylinder cone pyramid diameter circumference congruent numbers squares cubes perfect "
    "nonnegative negative whole points vertex asymptote reciprocal parallel coordinates radians "
    "sides side length width height distance ratio average centroid drawn replacement marbles "
    "flipped coin coins rolled ways arrangements selected x y z n expected dice die eigenvalue "
    "limit theorem",
    2,
)
RESULT_ASKED = phrase(
    "a result to find",
    "which find compute evaluate calculate determine solve simplify express many value what "
    "prove factor expand smallest largest probability show",
    r"find|comput|evaluat|calculat|determin|solv|simplify|express|factor|expand|prove|how many"
    r"|for (?:which|what)|what(?:'s| is| are| was| fraction| percent| value)\b|values? of"
    r"|smallest|largest",
)
NOTATION = counted("notation", 2)
OPERATORS = counted("operators", 1)
TRANSFORM = words(
    "an expression to work on",
    "factor expand simplify evaluate compute solve differentiate integrate",
    scope="ends",
)
COUNTING = phrase(
    "a count of possibilities",
    "many ways number different distinct possible arrangements",
    r"(?:how many|number of) (?:[\w-]{1,20} ){0,2}?(?:ways|arrangements|permutations"
    r"|combinations|subsets"
    r"|outcomes|sequences|paths|words|numbers|integers|triples|pairs|solutions|committees"
    r"|handshakes)\b",
)
CHOSEN = words(
    "what is chosen",
    "tile board paths grid dominoes stairs change letters people digits seated chosen choose "
    "select selected arranged arrange form formed made table books committee balls cards "
    "different distinct each order repetition total possible",
)
VARIABLES = words("names of variables", "x y z n f g", scope="ends")
AMOUNTS = counted("numbers", 3)
QUANTITY_ASKED = phrase(
    "a quantity asked",
    "which number does must how much many total percent percentage average cost long old far "
    "money earn fraction amount what when calculate estimate originally",
    r"(?:which|what) number|what (?:does|do|must|should|would) [^.?!]{0,40}?(?:cost|pay|weigh"
    r"|earn|sell|be)\b"
    r"|how (?:many|much|long|old|far|fast|tall|heavy|big|large|often)"
    r"|what (?:is|was|are|were|will be|percent|percentage|fraction)[^.?!]{0,60}?(?:total|average"
    r"|cost|price|amount|number|profit|sum|percent|ratio|age|time|distance|speed|revenue|salary"
    r"|probability|value|difference|charge|bill|score|weight|height|length|area|balance)"
    r"|what (?:percent|percentage|fraction)|what did (?:it|the \w{1,20}|he|she|they) (?:cost"
    r"|pay|weigh|earn)|calculate|estimate|when (?:do|will|does"
    r"|did) (?:they|it|he|she)"
    r"|at what (?:time|rate|price|speed)",
)
RELATED = words(
    "quantities related",
    "seconds pass passes speed average removed drops added gains loses night profit loss mixes "
    "mixed kg litres together half each every per twice half times more less fewer than "
    "remaining left total altogether then after rest percent double doubled triple third quarter "
    "additional another sold bought spends spent pays paid costs cost gives gave discount split "
    "shared equally remainder rate interest hour hours minutes day days week weeks month year "
    "years mph km miles price average both sum away used uses earns makes off extra final "
    "discounted ages older younger needs take takes apart toward towards feet meters grams "
    "kilograms dozen combined plus equal holds holding weighs pounds ounces inches yards cents "
    "dollars equally pieces ate eats percentage kinds",
    3,
)
ESTIMATED = words(
    "an estimate reasoned out",
    "average estimate approximately roughly typical lifetime entire world year population fermi "
    "explain step reasoning assumptions per day fit",
    3,
)
AGES = phrase(
    "ages compared",
    "old older age ages younger",
    r"as old as|years? (?:older|younger)|(?:sum|ratio) of (?:their|the) ages"
    r"|times (?:\w{1,20} )?age",
    scope="ends",
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
    "plan plans planning actions action steps moves move sequence schedule itinerary route "
    "routes strategy blocks crossing cross deliver visit assign allocate trip tour operations "
    "stack unstack logistics warehouse roadmap load unload drive",
    2,
    scope="ends",
)
ITINERARY = words(
    "a trip",
    "trip itinerary visit cities city days day travel flight flights route tour stay spend stops "
    "attend meet",
    3,
)
PLAN_ASKED = words(
    "a plan asked",
    "plan schedule itinerary route order sequence find arrange roster rota timetable",
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
AIM = words(
    "an aim",
    "minimise minimises minimising maximise optimise minimizing maximizing goal goals objective "
    "minimize maximize satisfy satisfies achieve achieves target",
)
MACHINERY = words(
    "machinery of programs",
    "schema billion million shortener sharded sudoku propagation constraint engine backtracking "
    "optimizer garbage collector virtual lru cache heap trie queue scheduler allocator parser "
    "compiler interpreter tokenizer limiter balancer mutex semaphore distributed concurrent "
    "consensus pool hashmap btree microservice microservices backend concurrency asynchronous "
    "multithreaded regex kernel gpu neural solver blockchain websocket throughput latency "
    "sharding",
    2,
    scope="ends",
)
IMPLEMENT = words("an implementation asked", "implement implementing algorithm", scope="ends")
BUILD = words(
    "something to build",
    "write implement develop design create build optimize code program given refactor make",
    scope="ends",
)
FAULT = words(
    "a fault to find",
    "bug bugs debug fix wrong incorrect fails failing error race deadlock leak complexity optimize",
    scope="ends",
)
ARTEFACT = words(
    "a program",
    "function program algorithm script class code python java javascript c++ rust sql method "
    "implementation structure query api server app application compiler parser simulation "
    "website",
    scope="ends",
)
DEMANDS = words(
    "demands on it",
    "queue stack heap consecutive streak duplicates gaps overlapping running cumulative lru "
    "lockfree substring palindromic efficient efficiently complexity optimal optimized dynamic "
    "recursive recursion time space array arrays string strings tree graph sorted input output "
    "minimum maximum common largest smallest node nodes binary list lists linked longest "
    "shortest matrix integers concurrent thread parallel distributed cache scalable lock hash "
    "median subsequence occurrences returns edge cases number numbers sum index constraints "
    "files directory parallelism words",
    2,
    scope="ends",
)
