"""Evidence in situations told: worlds that are not, causes, hands, beliefs and times.

Hides the words that such tellings use. Most are everyday words; what makes them evidence is that
a question about the outcome stands beside them.
"""

from modelspend.evidence import counted, openings, phrase, words

SUPPOSED = words(
    "a supposition",
    "assume consider counterfactual counterfactually envision fictional hypothetical "
    "hypothetically if imagine picture pretend suppose supposing were",
    scope="ends",
)
NATURE = words(
    "a law of nature by name",
    "buoyancy electrons entropy friction gravitational gravity inertia magnetism momentum "
    "photons relativity thermodynamics",
)
LAWS = words(
    "laws of nature",
    "acceleration atmosphere atomic atoms buoyancy charge charges conservation density earth "
    "electric electron electrons energy entropy float force friction gravitational gravity heat "
    "heavier ice inertia light magnetic magnetism mass molecules momentum moon motion newton "
    "oceans orbit oxygen pendulum photon photons physics pressure quantum relativity rotate "
    "rotates rotating rotation sound speed spinning sun temperature thermodynamics tides time "
    "vacuum water wavelength",
    2,
)
ALTERED = words(
    "a law altered",
    "absent attractive backward backwards ceased cube cubed decreases different differently "
    "disappeared doubled expands faster half halved increases infinite instead inverse inverted "
    "longer negative negatively never only opposite positively removed repel repelled repels "
    "repulsive reversed reverses sideways slower square stopped stronger suddenly traveled "
    "travelled tripled twice upward upwards vanished variable was weaker were without zero",
)
OUTCOME = words(
    "the outcome asked",
    "affect behave calculate change changed consequence consequences derive describe determine "
    "effect effects explain follow happen happens how implications predict trajectory what would",
    2,
)
UNREAL = openings(
    "a past that was not",
    "assume had hadn't how if imagine instead never suppose was were weren't would",
    r"(?:suppos(?:e|ing)|imagine|assume)(?: that)? (?!you\b|i\b)[^.?!]{1,60}?\b(?:were|had"
    r"|could|no longer|\w{2,12}ed)\b"
    r"|how (?:would|might|could) (?!i\b|you\b|we\b)[^.?!]{1,80} if [^.?!]{1,60}"
    r"(?:\bwere\b|\bhad\b|\w{2}ed\b|\bdid\b)|\bhad [^.?!]{3,100}?,? would\b[^.?!]{0,80}\bhave\b"
    r"|(?:if|suppos(?:e|ing)|imagine|assum(?:e|ing)) [^.?!]{1,100}?"
    r"(?:\bhad(?:n't| not| never| \w{2,9}ly)? (?!to\b)"
    r"\w{0,12}(?:ed|en|un|ome|one|ost|ade|ent|ept|old|eld|ght|uilt|aid|und|ung|own|id|on|ft|ut"
    r"|lt)\b"
    r"|\b(?:was|were)(?:n't| not| never)\b|\bnever (?!mind)\w|\binstead\b)"
    r"|would(?:n't| not)? have (?:\w{1,20} ){1,3}?(?:had|if) "
    r"|\bhad (?:\w{1,20} ){1,4}?(?:not|never) \w",
)
ELSEWHERE = openings(
    "a world made up",
    "country history planet reality scenario society timeline universe world",
    r"(?:imagine|suppose|consider|assume|describe|invent|in|on) an? (?:\w{1,20} )?(?:universe"
    r"|world|society|planet"
    r"|country) "
    r"(?:with|where|in|without|that|whose)"
    r"|(?:hypothetical|alternate|alternative|parallel|imaginary|fictional|counterfactual|invented"
    r"|self-contained|made-up)\W{1,2}(?:\w{1,20}\W{1,2}){0,3}?"
    r"(?:world|universe|history|timeline|scenario|reality|society|planet|country)",
)
TURNED = words(
    "what would be otherwise",
    "affect affected changed consequences could describe different differently discuss evolved "
    "explain happen happened how impact influence influenced map might outline sketch speculate "
    "unmentioned what without would",
    scope="ends",
)
CONSISTENT = words(
    "consistency",
    "causally coherence coherent consistency consistent contradict contradicting contradiction "
    "contradictions contradictory contradicts inconsistencies inconsistency inconsistent paradox "
    "paradoxes retroactively",
)
CHAIN = words(
    "a chain of causes",
    "causal causality causally cause caused causes chain consequence consequences effect effects "
    "event events future history loop past plot sequence timeline timelines traveler traveller",
    2,
)
IMPOSED = words(
    "a constraint imposed",
    "all any avoid avoiding cannot each ensure every keep keeping maintain maintaining must "
    "never no only preserve preserving remain remains require should stays strictly without",
)
CAUSES = words(
    "words of cause",
    "affect affects association because blame causal causally causation cause caused causes "
    "causing confounder confounding contributed correlate correlated correlates correlation "
    "directly due effect effects independent indirectly influence influences intentional "
    "intentionally intervene intervention leads led mediated mediator prevent prevented "
    "responsibility responsible result resulted treated treatment",
)
CAUSE_ASKED = phrase(
    "a cause asked",
    "can could did do does if is should was what which who will would",
    r"[^a-z0-9_](?:did|does|do|is|was|were|would|will|can|could|should) [^.?!]{2,160}?"
    r"\b(?:caused?|because|intentionally|due to|led to|leads? to|result"
    r"|responsible|on purpose|effect|affect|increase|decrease"
    r"|instead|attributed to|explained by|more likely|less likely|prevent|explain|independent"
    r"|had not|hadn't|happened|to blame)\b[^?]{0,200}\?"
    r"|\b(?:who|which|what) (?:\w{1,20} ){0,3}?(?:caused|is responsible|was responsible"
    r"|is to blame)",
)
SCENE = words(
    "a case told",
    "did had he her him his knew not only she their they was were who would",
    3,
)
CHANCES = words(
    "chances",
    "chance chances likelihood likely odds percent probabilities probability rate unlikely",
)
COMPARED = words(
    "chances compared",
    "conditional conditioned correct decrease decreases given greater higher increase increases "
    "larger less likely lower more negatively observing overall positively smaller when",
    2,
    scope="ends",
)
CONDITION = words("a condition", "if unless", scope="ends")

TRANSFERS = words(
    "things changing hands or places",
    "add climbs closed closes doubles draw draws dropped drops empties entered enters exchange "
    "exchanged exchanges flip flips gave gives goes handed hands hid hides leaves left move "
    "moved moves opened opens pass passed passes picked picks placed places plugs pour poured "
    "pours press presses put puts remove removed removes returns rotates shuffle shuffled "
    "shuffles slid slides steals stole subtract swap swapped swapping swaps switch switched "
    "switches take takes threw throw throws took trade traded trades transferred transfers turn "
    "turns unplugs walked walks",
)
HOLDINGS = words(
    "a state at the start",
    "bag ball balls basket begin beginning begins book books bottom box boxes card cards closed "
    "coin counter cup cups drawer each floor has hat hats have hold holding holds initially jar "
    "jars kitchen lamp off on open originally partner position register room rooms seat stack "
    "start started starts switch table top variable wear wears",
)
STEPS = words(
    "steps in order",
    "after afterwards again and before finally first lastly later meanwhile next once otherwise "
    "repeat second subsequently then third throughout twice until when while",
    2,
)
STATE_ASKED = openings(
    "the state at the end",
    "contains does end ends final finally has holding is lamp now result what where which who",
    r"what \w{1,20} (?:does|do) (?:each|they|\w{1,20}) (?:\w{1,20} )?(?:wear|have|hold|own|end|get)"
    r"|is the \w{1,20} (?:on|off|open|closed|in|still)\b|which \w{1,20} is|what (?:are"
    r"|is) \w{1,20} and"
    r"|at the end|ends? up|in the end|\bnow\b|finally|final (?:position|state|location|order)"
    r"|after (?:all|these|this|the)|where (?:is|are|will|was|does|did)|who (?:has|holds|is|ends)"
    r"|which (?:box|cup|room|ball|drawer|card|seat|floor|square|hand|side)"
    r"|what (?:is|does|card|color|colour|item|object|is in)",
)

BELIEFS_NESTED = phrase(
    "belief within belief",
    "assume assumes aware believe believed believes certain claim claims expect expects knew "
    "know knows realize realizes said say says suspect suspects think thinks thought",
    r"[^a-z0-9_](?:thinks?|thought|believe[sd]?|knows?|knew|suspect(?:s|ed)?|assume[sd]?"
    r"|expect(?:s|ed)?|realize[sd]?|guess(?:es)?|aware|unaware|convinced|says?|said|claim(?:s|ed)?)"
    r"(?: that)? "
    r"(?:\w{1,20} ){1,4}?(?:thinks?|thought|believe[sd]?|knows?|knew|suspect(?:s|ed)?|assume[sd]?"
    r"|expect(?:s|ed)?|unaware|wants?|intends?|will (?:look|search|say|think))\b",
    scope="ends",
)
MINDS = words(
    "what minds do",
    "believed believes expects guess heard knew knows lied lies notice noticed notices overheard "
    "pretended pretends realised realized saw secretly sees tells thinks thought told unaware",
    2,
)
BELIEF_ASKED = openings(
    "a belief asked",
    "assume aware believe believes expect expects guess know knows look mistaken say search "
    "suspect think thinks wrong",
    r"(?:mistaken|wrong) about|what (?:\w{1,20} ){1,3}?(?:believes|thinks|knows)\b"
    r"|\b(?:does|did|will|would|do|might|should|can) (?!you\b|i\b|we\b|people\b)"
    r"(?:the |an? |her |his )?(?:\w{1,20} ){1,3}?(?:thinks?|believes?|expects?|look|search|know"
    r"|assume|suspect|guess|infer|realize)\b[^?]{0,120}\?"
    r"|\b(?:where|which|what)\b[^.?!]{0,80}? (?:would|will) "
    r"(?:look|search|think|believe|expect|say)\b[^?]{0,120}\?",
)
ANY_ASKED = phrase(
    "a question", "who what which does where is", r"(?:who|what|which|does|where|is) [^?]{1,200}\?"
)
NOT_KNOWN = phrase(
    "knowledge that is lacking",
    "know knowing knows sure tell",
    r"(?:don't|doesn't|didn't|do not|does not|did not|cannot|can't) (?:yet )?(?:know|tell|see)"
    r"|not sure|without knowing|(?:without|knows|know) (?:\w{1,20} ){0,2}?(?:that|knowledge)",
    scope="ends",
)
UNSEEN = words(
    "comings and goings",
    "absent away behind entered enters exited exits goes hid hidden hide hides inside leave "
    "leaves leaving left looking meanwhile moved moves notice noticed noticing overheard "
    "privately put returned returns room saw secretly seen sees sight tells told took unaware "
    "unnoticed watching went while without witnessed witnesses",
    2,
)
STORED = words(
    "things put away",
    "bag basket booth bottle box bucket cabinet car chest closet container cupboard desk drawer "
    "fridge jar kitchen office pantry pocket room shelf table",
)
LIARS = openings(
    "liars and truth-tellers",
    "culprit dishonest false guilty honest knave knaves knight knights liar liars lie lied lies "
    "lying spies spy thief true truth truthful truthfully truths",
    r"\bliars?\b|knaves?\b|knights?\b|tell(?:s|ing)? the truth|truth-?teller|truthful"
    r"|\bl(?:ies|ying|ied)\b"
    r"|always lie|(?:one|two|three|only|exactly|none) \w{1,20}(?: \w{1,20}){0,2} (?:is|are) "
    r"(?:lying|telling|true|false|guilty)\b",
    scope="ends",
)
CLAIMS = words(
    "claims about others",
    "accuses answered asserted asserts claimed claims commented declares expressed inscription "
    "inscriptions insists labels noted remarked replies responds said saying says sign signs "
    "stated statement statements states tells told",
)
CLAIM_ASKED = phrase(
    "whose claim holds",
    "are determine does guilty is knight lying true what which who",
    r"[^a-z0-9_](?:who|which|does|is|are|what|determine|can you)\b[^.?!]{0,90}"
    r"\b(?:truth|lie|lying|liars?|knights?|knaves?|true|guilty|did it|stole|broke"
    r"|culprit|thief|spy|innocent|honest)\b"
    r"|who is (?:an? |the |which|lying)|what (?:is|are) (?:each|they)",
)

CLOCKS = counted("clocks", 3)
DATES = words(
    "days and dates",
    "afternoon ago april august day days december evening february friday hour hours january "
    "july june march midnight minutes monday month months morning noon november october saturday "
    "september sunday thursday today tomorrow tuesday wednesday week weeks year years yesterday",
    2,
)
BEFORE = words(
    "before and after",
    "after already before between by during earlier following from later overlap overlaps "
    "previous since then until when while",
    2,
)
TIME_ASKED = openings(
    "a time asked",
    "available could date day earliest free hours latest long possible time when",
    r"when (?:did|could|can|will|is|was|were|should|does)\b"
    r"|what (?:is the |local )?(?:\w{1,20} and )?(?:time|date|day|year)"
    r"|which (?:day|date|time|year|month)|how (?:long|many (?:days|hours|minutes|weeks|years))"
    r"|between what|earliest|latest|could [^.?!]{1,60} have|available|free (?:slot|time)|time slot"
    r"|overlap|find (?:an? |the )?(?:time|slot|date|day)|works for",
)
TIMELINE = phrase(
    "a timeline asked",
    "earliest first happened last latest order possible sequence timeline",
    r"in (?:what|which) order|timeline|order in which|happened (?:first|last|before|after)"
    r"|first (?:step|event)|(?:which|what) (?:event|of \w{1,20}) [^.?!]{0,40}(?:first|last)",
)
ORDER_ASKED = phrase(
    "what was before or after",
    "after before between during until when while years",
    r"[^a-z0-9_](?:which|what|where|who|whom|how)\b[^.?!]{0,120}?"
    r"\b(?:before|after|between|while|during|until|when|in [12]\d{3})\b[^?]{0,80}\?",
)
DATE_ASKED = phrase(
    "a date asked",
    "date day",
    r"what (?:is|was|will be|would be|'s) the (?:date|day)|(?:what|which) (?:date|day)"
    r"|the date (?:today|tomorrow|yesterday|\w{1,20} \w{1,20} (?:ago|later|from|before|after))",
)
MEETING = words(
    "a time for several",
    "appointment available blocked busy calendar everyone free meeting meetings schedule "
    "schedules slot unavailable works",
    2,
)
REVERSED = openings(
    "order reversed",
    "back backward backwards chronological chronologically end jumbled last latest linear mixed "
    "nonlinear order reverse reversed rewind scrambled shuffled unordered",
    r"from [^.?!]{1,40} back to"
    r"|(?:moving|working|going|tracing|stepping|told) back(?:wards?)?\b"
    r"|(?:reverse|reversed|non-?linear|scrambled|out of|achronological)\W(?:\w{1,20}\W){0,2}?"
    r"(?:chronolog|order|timeline|sequence|narrative|time)"
    r"|backwards?\b(?: in time| from|,? (?:through|starting|so)"
    r"|[^.?!]{0,40}\b(?:time|story|order|events?|step))"
    r"|backwards?,? (?:beginning|starting|from)"
    r"|(?:shuffled|scrambled|jumbled|mixed-up|unordered) (?:\w{1,20} ){0,3}?"
    r"(?:events|steps|sentences|scenes|entries|paragraphs|parts|lines|chapters)"
    r"|chronological(?:ly)? (?:order|sequence)?[^.?!]{0,60}(?:reverse|backward|reconstruct|infer)"
    r"|from (?:the )?(?:end|last|latest|most recent)\b[^.?!]{0,40}\bto (?:the )?"
    r"(?:beginning|start|first|earliest|oldest)",
)
NARRATED = words(
    "events told",
    "cause causes chapter chapters diary event events happened history incident life moves "
    "narrate narrative plot reconstruct scene scenes sequence steps stories story tell timeline",
)
