"""Evidence in situations told: worlds that are not, causes, hands, beliefs and times.

Hides the words that such tellings use. Most are everyday words; what makes them evidence is that
a question about the outcome stands beside them.
"""

from modelspend.evidence import counted, openings, phrase, words

SUPPOSED = words(
    "a supposition",
    "imagine suppose supposing assume pretend hypothetical hypothetically if were fictional "
    "counterfactual counterfactually consider picture envision",
    scope="ends",
)
NATURE = words(
    "a law of nature by name",
    "gravity friction entropy thermodynamics inertia magnetism gravitational photons buoyancy "
    "relativity momentum electrons",
)
LAWS = words(
    "laws of nature",
    "gravity gravitational friction light mass entropy thermodynamics conservation electron "
    "electrons electric inertia momentum photon photons magnetic magnetism physics temperature "
    "energy force atoms atomic orbit rotation rotate earth moon sun pressure sound water ice "
    "density speed charge charges quantum relativity newton motion time heat heavier float "
    "molecules oxygen vacuum acceleration buoyancy pendulum wavelength tides",
    2,
)
ALTERED = words(
    "a law altered",
    "repulsive attractive was doubled halved reversed reverses repels repel repelled backwards "
    "backward opposite inverse stopped without absent zero negative vanished travelled traveled "
    "disappeared stronger weaker cube cubed square were positively negatively upward upwards "
    "sideways instead slower faster infinite suddenly never longer different differently half "
    "twice tripled removed ceased expands increases decreases inverted variable only",
)
OUTCOME = words(
    "the outcome asked",
    "would happen happens consequences consequence predict derive describe explain effect "
    "effects affect how what follow implications change changed determine calculate trajectory "
    "behave",
    2,
)
UNREAL = openings(
    "a past that was not",
    "was suppose imagine assume had hadn't never were weren't instead if",
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
    "world universe history timeline scenario reality society planet country",
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
    "would could might without different differently affect affected changed influence "
    "influenced impact consequences happened happen unmentioned evolved how what sketch describe "
    "explain discuss speculate outline map",
    scope="ends",
)
CONSISTENT = words(
    "consistency",
    "consistent consistency contradict contradicting contradicts contradiction contradictions "
    "contradictory paradox paradoxes coherent coherence inconsistent inconsistency "
    "inconsistencies causally retroactively",
)
CHAIN = words(
    "a chain of causes",
    "cause causes caused causal causally causality effect effects event events timeline "
    "timelines chain past future consequence consequences history sequence plot traveler "
    "traveller loop",
    2,
)
IMPOSED = words(
    "a constraint imposed",
    "must ensure every each cannot only no without never any remain remains stays preserve "
    "preserving maintain maintaining keep keeping avoid avoiding require all strictly should",
)
CAUSES = words(
    "words of cause",
    "cause causes caused causing causal causally causation because effect effects affect affects "
    "intentionally intentional responsible responsibility blame due led leads result resulted "
    "influence influences prevented prevent contributed confounder confounding mediator mediated "
    "intervention intervene treatment treated correlated correlate correlates correlation "
    "association directly indirectly independent",
)
CAUSE_ASKED = phrase(
    "a cause asked",
    "did does do is was would will can could which should if who what",
    r"\b(?:did|does|do|is|was|were|would|will|can|could|should) [^.?!]{2,160}?\b(?:caused?|because"
    r"|intentionally|due to|led to|leads? to|result|responsible|on purpose|effect|affect|increase"
    r"|decrease|instead|attributed to|explained by|more likely|less likely|prevent|explain"
    r"|independent|had not|hadn't"
    r"|happened|to blame)\b[^?]{0,200}\?"
    r"|\b(?:who|which|what) (?:\w{1,20} ){0,3}?(?:caused|is responsible|was responsible"
    r"|is to blame)",
)
SCENE = words(
    "a case told",
    "he she they his her their had was were him would who only knew did not",
    3,
)
CHANCES = words(
    "chances",
    "probability probabilities likelihood chance chances percent likely unlikely rate odds",
)
COMPARED = words(
    "chances compared",
    "larger smaller higher lower more less increase increases decrease decreases likely "
    "positively negatively greater given when observing conditioned conditional overall correct",
    2,
    scope="ends",
)
CONDITION = words("a condition", "if unless", scope="ends")

TRANSFERS = words(
    "things changing hands or places",
    "move take put add flip press presses plugs unplugs remove subtract turn swaps pours pour "
    "throw draw draws swap swaps swapped swapping switch switches switched trade trades traded "
    "exchange exchanges exchanged pass passes passed hands handed gives gave takes took moved "
    "moves puts put placed places shuffle shuffled shuffles slides slid transfers transferred "
    "pours poured removes removed returns rotates turns hides hid steals stole throws threw "
    "flips opens closes opened closed picks picked walks walked leaves left enters entered drops "
    "dropped empties",
)
HOLDINGS = words(
    "a state at the start",
    "hats started wear wears hold jar jars top bottom stack variable off on open closed lamp "
    "switch counter register start beginning initially originally begin begins starts holding "
    "holds has have box boxes bag cup cups ball balls room rooms drawer coin card cards each "
    "basket kitchen position seat partner table book books hat",
)
STEPS = words(
    "steps in order",
    "repeat otherwise twice until first then next finally after afterwards later lastly second "
    "third subsequently while when before throughout meanwhile again once and",
    2,
)
STATE_ASKED = openings(
    "the state at the end",
    "lamp which is end end finally now final where who which what holding has does is result "
    "contains ends",
    r"what \w{1,20} (?:does|do) (?:each|they|\w{1,20}) (?:\w{1,20} )?(?:wear|have|hold|own|end|get)"
    r"|is the \w{1,20} (?:on|off|open|closed|in|still)\b|which \w{1,20} is|what (?:are"
    r"|is) \w{1,20} and"
    r"|at the end|ends? up|in the end|\bnow\b|finally|final (?:position|state|location|order)"
    r"|after (?:all|these|this|the)|where (?:is|are|will|was|does|did)|who (?:has|holds|is|ends)"
    r"|which (?:box|cup|room|ball|drawer|card|seat)"
    r"|what (?:is|does|card|color|colour|item|object|is in)",
)

BELIEFS_NESTED = phrase(
    "belief within belief",
    "think thinks thought believe believes believed know knows knew assume assumes suspect "
    "suspects expect expects aware say says said claim claims realize realizes certain",
    r"\b(?:thinks?|thought|believe[sd]?|knows?|knew|suspect(?:s|ed)?|assume[sd]?|expect(?:s|ed)?"
    r"|realize[sd]?|guess(?:es)?|aware|unaware|convinced|says?|said|claim(?:s|ed)?)(?: that)? "
    r"(?:\w{1,20} ){1,4}?(?:thinks?|thought|believe[sd]?|knows?|knew|suspect(?:s|ed)?|assume[sd]?"
    r"|expect(?:s|ed)?|unaware|wants?|intends?|will (?:look|search|say|think))\b",
    scope="ends",
)
MINDS = words(
    "what minds do",
    "believes thinks knows pretended pretends told tells notices noticed notice sees saw heard "
    "overheard lied lies secretly unaware expects knew thought believed realised realized guess",
    2,
)
BELIEF_ASKED = phrase(
    "a belief asked",
    "mistaken wrong thinks think thinks believe believes expect expects look search know knows "
    "say assume suspect guess aware",
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
    "know tell sure knows knowing",
    r"(?:don't|doesn't|didn't|do not|does not|did not|cannot|can't) (?:yet )?(?:know|tell|see)"
    r"|not sure|without knowing|(?:without|knows|know) (?:\w{1,20} ){0,2}?(?:that|knowledge)",
    scope="ends",
)
UNSEEN = words(
    "comings and goings",
    "exited exits leave left leaves entered enters moved moves away absent without privately "
    "secretly while room returns returned watching sees saw seen witnessed witnesses notice "
    "noticed noticing unnoticed hidden hides looking inside told tells meanwhile unaware behind "
    "goes went overheard sight",
    2,
)
STORED = words(
    "things put away",
    "booth desk table car office box basket drawer cupboard bag fridge bottle container closet "
    "room kitchen bucket pantry cabinet shelf jar chest pocket",
)
LIARS = openings(
    "liars and truth-tellers",
    "lie lies lying liar liars truth truths truthful truthfully knight knights knave knaves spy "
    "spies honest dishonest lied false true guilty thief culprit",
    r"\bliars?\b|knaves?\b|knights?\b|tell(?:s|ing)? the truth|truth-?teller|truthful"
    r"|\bl(?:ies|ying|ied)\b"
    r"|always lie|(?:one|two|three|only|exactly|none) \w{1,20}(?: \w{1,20}){0,2} (?:is|are) "
    r"(?:lying|telling|true|false|guilty)\b",
    scope="ends",
)
CLAIMS = words(
    "claims about others",
    "says said claims claimed states stated asserts replies answered tells declares accuses told "
    "saying statement statements remarked commented noted expressed responds asserted insists "
    "inscription inscriptions labels sign signs",
)
CLAIM_ASKED = phrase(
    "whose claim holds",
    "who which does is are what determine true guilty lying knight",
    r"\b(?:who|which|does|is|are|what|determine|can you)\b[^.?!]{0,90}\b(?:truth|lie|lying|liars?"
    r"|knights?|knaves?|true|guilty|did it|stole|broke|culprit|thief|spy|innocent|honest)\b"
    r"|who is (?:an? |the |which|lying)|what (?:is|are) (?:each|they)",
)

CLOCKS = counted("clocks", 3)
DATES = words(
    "days and dates",
    "monday tuesday wednesday thursday friday saturday sunday january february march april june "
    "july august september october november december yesterday tomorrow today week weeks days "
    "day month months year years ago morning afternoon evening noon midnight hours hour minutes",
    2,
)
BEFORE = words(
    "before and after",
    "before after between until earlier later during from since while when by then previous "
    "following already overlap overlaps",
    2,
)
TIME_ASKED = phrase(
    "a time asked",
    "when time date day long earliest latest could possible available free hours",
    r"when (?:did|could|can|will|is|was|were|should|does)\b"
    r"|what (?:is the |local )?(?:\w{1,20} and )?(?:time|date|day|year)"
    r"|which (?:day|date|time|year|month)|how (?:long|many (?:days|hours|minutes|weeks|years))"
    r"|between what|earliest|latest|could [^.?!]{1,60} have|available|free (?:slot|time)|time slot"
    r"|overlap|find (?:an? |the )?(?:time|slot|date|day)|works for",
)
TIMELINE = phrase(
    "a timeline asked",
    "order timeline happened first last possible sequence earliest latest",
    r"in (?:what|which) order|timeline|order in which|happened (?:first|last|before|after)"
    r"|first (?:step|event)|(?:which|what) (?:event|of \w{1,20}) [^.?!]{0,40}(?:first|last)",
)
ORDER_ASKED = phrase(
    "what was before or after",
    "before after between when while during until years",
    r"\b(?:which|what|where|who|whom|how)\b[^.?!]{0,120}?"
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
    "busy blocked meeting free schedule schedules unavailable works available everyone "
    "appointment calendar meetings slot",
    2,
)
REVERSED = openings(
    "order reversed",
    "back reverse reversed backwards backward chronological chronologically rewind linear "
    "nonlinear order last end latest shuffled scrambled jumbled mixed unordered",
    r"(?:moving|working|going|tracing|stepping|told) back(?:wards?)?\b"
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
    "story stories event events narrative scene scenes timeline plot tell narrate history "
    "happened steps chapter chapters incident diary moves sequence reconstruct cause causes life",
)
