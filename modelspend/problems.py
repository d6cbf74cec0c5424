"""Evidence in problems set: forms of text, puzzles, proofs, mathematics, plans and programs.

Hides the words that such tasks use. Letters like x and n are words here, since a formula is
little else.
"""

from modelspend.evidence import counted, openings, phrase, words

LETTER_FORM = openings(
    "a form of letters",
    "abecedarian acrostic acrostics alliteration alliterative alphabet alphabetical anagram "
    "anagrams backward backwards consonant consonants letter letters lipogram mesostic "
    "palindrome palindromes palindromic pangram syllable syllables tautogram univocalic vowel "
    "vowels",
    r"acrostic|palindrom|lipogram|alliterat|anagram|pangram|tautogram|abecedar|mesostic|univocalic"
    r"|letters? (?:of|in|per|from|[a-z]\b|\W[a-z]\W)|(?:vowel|consonant|syllable)s?\b"
    r"|reads? (?:exactly )?the same"
    r"|(?:first|last|same|initial|next|each|every|consecutive|different|capital|final|starting"
    r"|following) (?:\w{1,20} )?(?:letter|vowel|consonant|syllable)|alphabet",
    scope="ends",
)
FORM_NAMED = words(
    "a form of letters by name",
    "abecedarian acrostic acrostics alliteration alliterative anagram anagrams lipogram mesostic "
    "palindrome palindromes pangram tautogram",
    scope="ends",
)
COMPOSE = words("something to compose", "write compose create craft generate invent", scope="ends")
UNITS = words(
    "parts of the text",
    "answer bullet bullets haiku letter letters line lines name paragraph paragraphs poem "
    "sentence sentences spell spelling spells stanza stanzas text verse verses word words",
    scope="ends",
)
BOUND = words(
    "a rule on every part",
    "all any begin beginning begins by consecutive contain contains each end ending ends every "
    "exactly first form forms last least must never next no only previous read reads same spell "
    "spelling spells start starting starts successive that using whose without",
    scope="ends",
)
WRITE = words(
    "something to write",
    "answer compose construct craft create describe essay explain generate give include list "
    "make output paragraph poem produce reply respond response sentence should story tell use "
    "write",
    scope="ends",
)
PARTS = words(
    "parts that can be tied",
    "bullet bullets letter letters line lines paragraph paragraphs sentence sentences stanza "
    "stanzas syllables verse verses word words",
    scope="ends",
)
PARTS_TIED = openings(
    "parts tied to one another",
    "adjacent alternate alternating ascending begin consecutive decrease decreases decreasing "
    "descending double doubles each end every final first grow grows increase increases "
    "increasing initial last next preceding previous start subsequent successive third two",
    r"each (?:\w{1,20} ){0,2}?(?:twice|longer|shorter|one word)"
    r"|(?:sentences|lines|words|paragraphs) (?:must |should |all )?(?:start|begin|end)s? with"
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
    "adjacent alliteration alliterative alternate alternates alternating ascending begin "
    "beginning begins consecutive consonant consonants decreasing descending end ending ends "
    "equal even exactly fewer fibonacci first increase increases increasing increment "
    "incrementally last longer more next odd palindrome palindromes preceding previous prime "
    "progressively repeat repeated repeating reverse same shorter start starts successive "
    "syllables unique vowel vowels",
    scope="ends",
)

ARRANGED = words(
    "things in an order",
    "arrange arranged branch circle finished floors lined order ordered queue race ranked ranks "
    "row rows seated seats shelf show sit sits standing tournament",
)
RELATIVE = words(
    "one relative to another",
    "above adjacent ahead behind below beside between cheapest expensive faster finished front "
    "heavier heaviest higher left leftmost lighter lower newer newest next older oldest right "
    "rightmost shorter shortest slower taller tallest youngest",
)
ENUMERATED = counted("commas", 3)
GRID = words(
    "a grid to fill", "grid sudoku crossword row column rows columns squares cell cells", 2
)
SUSPECTS = words(
    "suspects",
    "alibi alibis crime culprit detective guilty killer motive murder murdered murderer robbed "
    "stole suspect suspects theft weapon",
    2,
    scope="ends",
)
ALLOCATE = words(
    "an allocation asked",
    "allocate allocated allocation assign assigned distribute divide grouped match matched pair "
    "paired teams",
    scope="ends",
)
TASKS = words(
    "what is allocated",
    "each employees job jobs partners people person role roles rooms seats shifts slots students "
    "task tasks team teams workers",
)
PREFERENCES = words(
    "who may have what",
    "afraid argue argued available can't cannot conflict constraints dislikes experience likes "
    "must never no only prefer prefers refuses skilled strengths trust unless weaknesses",
    2,
)
HOW_CAN = openings(
    "a way to be found",
    "can could crossings cuts determine fewest how least minimum moves questions reach sequence "
    "smallest steps tries trips way weighings",
    r"in how many|can you (?:reach|get|cut|place|cover)"
    r"|(?:steps|sequence of|moves|way) to"
    r"|in (?:\w{1,20} )?(?:weighings|moves|steps|cuts|trips|crossings|questions|tries)"
    r"|how (?:can|could|would|do|should|did|does) (?:you|we"
    r"|he|she|they|one|the|this|it)\b"
    r"|(?:minimum|least|fewest|smallest) number of",
)
LIMITED = words(
    "a limit on the means",
    "allowed balance cannot crossing exactly fewest least minimum never once only pour scale "
    "trip trips twice weighings without",
)
PLACES = words(
    "places in an order",
    "above adjacent after ahead before behind below beside between bottom cheapest directly east "
    "end expensive faster fewer fifth finished first fourth heavier higher immediately last left "
    "leftmost lower middle neighbor neighbors newer newest next north older oldest opposite "
    "ranked right rightmost seated second shorter shortest sits slower south taller tallest "
    "third top west youngest",
    3,
)
ORDER_OF_STEPS = phrase(
    "an order of steps asked",
    "first order sequence steps",
    r"in (?:what|which) order|(?:what|which) (?:order|sequence)|(?:the|what) (?:very )?first step"
    r"|order (?:the|of|in which)",
)
EXCLUSIVE = words(
    "one each",
    "arranged both cannot different distinct each eight either exactly five fixed floor floors "
    "four house houses must neither no none not one only order positions respectively row same "
    "seats seven six three unique",
    2,
)
ONE_EACH = openings(
    "one for each",
    "different each exactly two unique",
    r"each (?:\w{1,20},? ){1,8}?(?:a different|different|exactly one|one of|only one|a unique)\b"
    r"|no two (?:\w{1,20} ){0,3}?(?:the same|have|share|own|are)|exactly one (?:of|is|\w{1,20} is)",
    scope="ends",
)
WHICH_ASKED = words(
    "which one",
    "arrange choices conclude determine follows how options order possible solve statement true "
    "what where which who whose",
    scope="ends",
)
DEDUCED = openings(
    "a deduction asked",
    "deduce determine figure infer must what when where which who work",
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
    "clue clues conditions consistent constraint constraints facts following given hints "
    "logically premises puzzle requirements restrictions riddle rules statements",
)
KIN = words(
    "kinship",
    "aunt brother brothers child children cousin daughter daughters father grandfather "
    "grandmother husband mother nephew niece siblings sister sisters son sons uncle wife",
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
    "ahead backward behind clockwise east facing forward front left north opposite overtake "
    "overtaken overtook pass passed position right shadow south step steps turn turned turns "
    "west",
    2,
)
PLACE_ASKED = phrase(
    "where one stands",
    "coordinates direction facing heading position return what where which",
    r"heading|coordinates|which (?:direction|way|side)|what (?:is"
    r"|'s)? ?(?:\w{1,20} ){0,3}?(?:position|direction|place)"
    r"|return to the|where (?:is|are|am|was|will|do)|starting (?:point|position)"
    r"|facing\b[^.?!]{0,20}\?",
)
WALKER = words("one who moves", "if you i he she they it robot standing walks takes moves")

PROOF_ASKED = openings(
    "a proof asked",
    "argue argument demonstrate derive disprove induction justify proof proofs prove proves "
    "refute rigorous show verify",
    r"\b(?:dis)?prove\b|\bproofs?\b|show there|argue (?:that|why)|argument (?:that|for|why)"
    r"|\b(?:show|demonstrate|verify|derive|justify)(?: \w{1,20})? "
    r"(?:that|the|why|whether|if)\b|induction|rigorous",
)
OBJECTS = words(
    "mathematical objects",
    "algorithm angles axiom axioms basis bijection bounded compact complexity conjecture "
    "continuous contradiction convergent converges coprime countable decidable determinant "
    "divides divisible divisor edges eigenvalue eigenvalues equation equivalent even field "
    "finite formula function functions graph graphs group groups homomorphism independent "
    "inequality infinite infinitely injective integer integers irrational isomorphic k lemma "
    "limit linear logic matrices matrix monotone multiple n numbers odd polynomial prime primes "
    "rank rational real ring root sequence series set sets sqrt square squares subset sum "
    "surjective theorem triangle uncountable vector vertex vertices x y",
)
VALIDITY = words(
    "words of validity",
    "argument conclude conclusion contradiction deduce deductively entail entailed entailment "
    "entails follow follows hypothesis implied implies imply infer inference invalid logically "
    "necessarily premise premises syllogism uncertain unknown valid",
    2,
    scope="ends",
)
VALIDITY_ASKED = openings(
    "validity asked of what is given",
    "argument both conclude concluded conclusion conclusions consistent contradict contradictory "
    "deduce deduced entail entailed entails follow follows hypothesis implies imply inferred "
    "invalid logically necessarily premise premises valid",
    r"is (?:this|that|it|the \w{1,20}) (?:\w{1,20} )?(?:valid|sound)\b"
    r"|argument[^.?!]{0,80}?\b(?:valid|invalid|sound)"
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
    "conclusion false follow follows hypothesis statement true uncertain unknown",
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
    "conclusion consequently hence premise premises since so statement statements then therefore "
    "thus",
)
QUANTIFIERS = words(
    "quantifiers",
    "all always any anyone being either every everyone everything if least neither never no "
    "nobody none nor not nothing only some someone whoever",
    2,
)

NUMBER_THEORY = words(
    "numbers and figures",
    "circle coefficients cone cosine cylinder determinant digits divisible hexagon hypotenuse "
    "inscribed integer integers logarithm matrix modulo multiples parabola perpendicular "
    "polynomial prime primes probability remainder sine sphere tangent triangle vertices",
)
MATH = words(
    "terms of mathematics",
    "altitude angle angles area arithmetic arrangements asymptote average axis base bisector "
    "centroid chord circle circumference coefficient coefficients coin coins combinations common "
    "complex cone congruent consecutive coordinates cos cosine cube cubes cubic cylinder decimal "
    "degree degrees denominator derivative determinant diagonal diagonals diameter dice die "
    "digit digits distance distinct divided divisible divisor divisors domain drawn eigenvalue "
    "equation equations equilateral evaluate even expected expression factor factorial factors "
    "flipped fraction function geometric graph greatest height hexagon hypotenuse inequality "
    "inscribed integer integers integral intersect inverse isosceles least legs length limit ln "
    "log logarithm marbles matrix mean median midpoint modulo multiple multiples n negative "
    "nonnegative numbers octagon odd parabola parallel parallelogram pentagon perfect perimeter "
    "permutations perpendicular plane points polynomial positive prime primes probability "
    "product pyramid quadratic quadrilateral radians radius randomly range ratio real reciprocal "
    "rectangle remainder replacement rolled root roots segment selected sequence side sides "
    "simplify sin sine slope solution solutions sphere sqrt square squares such sum tan tangent "
    "theorem trapezoid triangle units vector vectors vertex vertices volume ways whole width x y "
    "z",
    2,
)
RESULT_ASKED = phrase(
    "a result to find",
    "calculate compute determine evaluate expand express factor find largest many probability "
    "prove show simplify smallest solve value what which",
    r"find|comput|evaluat|calculat|determin|solv|simplify|express|factor|expand|prove|how many"
    r"|for (?:which|what)|what(?:'s| is| are| was| fraction| percent| value)\b|values? of"
    r"|smallest|largest",
)
NOTATION = counted("notation", 2)
OPERATORS = counted("operators", 1)
TRANSFORM = words(
    "an expression to work on",
    "compute differentiate evaluate expand factor integrate simplify solve",
    scope="ends",
)
COUNTING = phrase(
    "a count of possibilities",
    "arrangements different distinct many number possible ways",
    r"(?:how many|number of) (?:[\w-]{1,20} ){0,2}?(?:ways|arrangements|permutations"
    r"|combinations|subsets"
    r"|outcomes|sequences|paths|words|numbers|integers|triples|pairs|solutions|committees"
    r"|handshakes)\b",
)
CHOSEN = words(
    "what is chosen",
    "arrange arranged balls board books cards change choose chosen committee different digits "
    "distinct dominoes each form formed grid letters made order paths people possible repetition "
    "seated select selected stairs table tile total",
)
VARIABLES = words("names of variables", "x y z n f g", scope="ends")
AMOUNTS = counted("numbers", 3)
QUANTITY_ASKED = openings(
    "a quantity asked",
    "amount average calculate cost does earn estimate far fraction how long many money much must "
    "number old originally percent percentage total what when which",
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
    "added additional after ages alone altogether another apart ate average away both bought "
    "cents combined cost costs day days discount discounted dollars double doubled dozen drops "
    "each earns eats equal equally every extra feet fewer filled fills final gains gave gives "
    "grams half holding holds hour hours inches interest kg kilograms kinds km left less litres "
    "loses loss makes meters miles minutes mixed mixes month more mph needs night off older "
    "ounces paid pass passes pays per percent percentage pieces plus pounds price profit quarter "
    "rate remainder remaining removed rest seconds shared sold speed spends spent split sum take "
    "takes than then third times together total toward towards triple twice used uses week weeks "
    "weighs yards year years younger",
    3,
)
ESTIMATED = words(
    "an estimate reasoned out",
    "approximately assumptions average day entire estimate explain fermi fit lifetime per "
    "population reasoning roughly step typical world year",
    3,
)
AGES = phrase(
    "ages compared",
    "age ages old older younger",
    r"as old as|years? (?:older|younger)|(?:sum|ratio) of (?:their|the) ages"
    r"|times (?:\w{1,20} )?age",
    scope="ends",
)
HOW_MANY = phrase("how many", "many much", r"how (?:many|much)\b")
REASONED = phrase(
    "the reasoning wanted",
    "approximately assumptions estimate explain explanation justify reasoning roughly step",
    r"explain (?:\w{1,20} ){0,2}?(?:answer|reasoning|thinking|assumption)|explanation|estimate"
    r"|reasoning|assumptions|step[- ]by[- ]step|justify|approximately|roughly",
    scope="ends",
)

ACTIONS = words(
    "actions to order",
    "action actions allocate assign blocks cross crossing deliver drive itinerary load logistics "
    "move moves operations plan planning plans roadmap route routes schedule sequence stack "
    "steps strategy tour trip unload unstack visit warehouse",
    2,
    scope="ends",
)
ITINERARY = words(
    "a trip",
    "attend cities city day days flight flights itinerary meet route spend stay stops tour "
    "travel trip visit",
    3,
)
PLAN_ASKED = words(
    "a plan asked",
    "arrange find itinerary order plan roster rota route schedule sequence timetable",
    scope="ends",
)
CONDITIONS = words(
    "what an action requires",
    "allowed available before budget cannot capacity conflict conflicts constraint constraints "
    "deadline empty exceed fewest forbidden holding initial initially least legal limit maximum "
    "minimum most must never no once only optimal overlap precondition preconditions "
    "restrictions shortest unless until without",
    2,
)
GOAL = words(
    "a goal to reach",
    "achieve achieves all complete end final get gets goal goals maximize meet meets minimize "
    "need needs objective optimize reach satisfies satisfy satisfying so such target that want",
    2,
)
AIM = words(
    "an aim",
    "achieve achieves goal goals maximise maximize maximizing minimise minimises minimising "
    "minimize minimizing objective optimise satisfies satisfy target",
)
MACHINERY = words(
    "machinery of programs",
    "allocator asynchronous backend backtracking balancer billion blockchain btree cache "
    "collector compiler concurrency concurrent consensus constraint distributed engine garbage "
    "gpu hashmap heap interpreter kernel latency limiter lru microservice microservices million "
    "multithreaded mutex neural optimizer parser pool propagation queue regex scheduler schema "
    "semaphore sharded sharding shortener solver sudoku throughput tokenizer trie virtual "
    "websocket",
    2,
    scope="ends",
)
IMPLEMENT = words("an implementation asked", "implement implementing algorithm", scope="ends")
BUILD = words(
    "something to build",
    "build code create design develop given implement make optimize program refactor write",
    scope="ends",
)
FAULT = words(
    "a fault to find",
    "bug bugs complexity deadlock debug error failing fails fix incorrect leak optimize race wrong",
    scope="ends",
)
ARTEFACT = words(
    "a program",
    "algorithm api app application class code compiler function implementation java "
    "javascript method parser program python query rust script server simulation sql structure "
    "website",
    scope="ends",
)
DEMANDS = words(
    "demands on it",
    "array arrays binary cache cases combinations common complexity concurrent consecutive "
    "constraints cumulative directory distributed duplicates dynamic edge efficient efficiently "
    "files gaps graph hash heap index input integers largest linked list lists lock lockfree "
    "longest lru matrix maximum median minimum node nodes number numbers occurrences optimal "
    "optimized output overlapping palindromic parallel parallelism permutations queue recursion "
    "recursive returns running scalable shortest smallest sorted space stack streak string "
    "strings subsequence subsets substring sum thread time tree words",
    2,
    scope="ends",
)
