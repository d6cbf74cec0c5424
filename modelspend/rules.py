"""The 17 rules that find what looks simple and is not: rows of data, each in one of 9 categories.

Hides which evidence makes which class of problem. A rule fires in one of its ways, and a way asks
for at least two kinds of evidence, so that no single term (an "if", an "acrostic", a "prove")
fires alone.
"""

from modelspend import problems, stories
from modelspend.evidence import CODE, Kind, counted, more, terms
from modelspend.record import frozen

THRESHOLD = 3
"""The score from which a prompt has advanced reasoning signals."""

Way = tuple[Kind, ...]


@frozen(kw_only=True)
class Rule:
    """One row: fires when all kinds of one way are seen, unless the text speaks of `unless`."""

    name: str
    category: str
    weight: int
    why: str
    ways: tuple[Way, ...]
    unless: frozenset[str] = frozenset()


RULES: tuple[Rule, ...] = (
    Rule(
        name="counterfactual_physics",
        category="counterfactual",
        weight=3,
        why="Consequences must be derived from laws that training never saw in force.",
        ways=(
            (stories.SUPPOSED, stories.LAWS, stories.ALTERED, stories.OUTCOME),
            (stories.SUPPOSED, stories.NATURE, stories.ALTERED, more(stories.OUTCOME, 1)),
        ),
        unless=terms("function code python story poem"),
    ),
    Rule(
        name="counterfactual_world",
        category="counterfactual",
        weight=3,
        why="A changed premise must be carried through everything that rests on it.",
        ways=((more(stories.UNREAL, 2), stories.TURNED), (stories.ELSEWHERE, stories.TURNED)),
    ),
    Rule(
        name="causal_consistency_constraint",
        category="causality",
        weight=2,
        why="Each part must agree with the causes and effects of all others.",
        ways=((stories.CONSISTENT, stories.CHAIN, stories.IMPOSED),),
    ),
    Rule(
        name="causal_inference",
        category="causality",
        weight=3,
        why="What caused what is not stated; it follows from the structure of the case.",
        ways=(
            (stories.CAUSE_ASKED, stories.CAUSES, counted("sentences", 3), stories.SCENE),
            (stories.CAUSE_ASKED, more(stories.CAUSES, 2), counted("sentences", 2)),
            (stories.CHANCES, stories.COMPARED, counted("numbers", 2), counted("sentences", 2)),
            (stories.CAUSE_ASKED, stories.CAUSES, problems.ALTERNATIVES, counted("sentences", 2)),
            (stories.CAUSE_ASKED, stories.CHANCES, counted("numbers", 2)),
            (problems.VALIDITY_ASKED, more(stories.CAUSES, 2)),
            (stories.CAUSE_ASKED, stories.CONDITION, counted("sentences", 3), stories.CAUSES),
        ),
        unless=CODE,
    ),
    Rule(
        name="acrostic_constraint",
        category="output_form",
        weight=3,
        why="Letters bind the text across words, which are chosen left to right.",
        ways=(
            (problems.LETTER_FORM, problems.UNITS, problems.BOUND, problems.WRITE),
            (problems.FORM_NAMED, problems.COMPOSE),
        ),
        unless=CODE,
    ),
    Rule(
        name="progressive_form_constraint",
        category="output_form",
        weight=3,
        why="Each part is bound by the one before it, so the whole must be planned.",
        ways=((problems.PARTS, problems.PARTS_TIED, problems.PROGRESSION, problems.WRITE),),
        unless=CODE,
    ),
    Rule(
        name="hidden_state_tracking",
        category="hidden_state",
        weight=4,
        why="Who holds what changes with every step and is never restated.",
        ways=(
            (
                stories.STATE_ASKED,
                stories.TRANSFERS,
                stories.HOLDINGS,
                stories.STEPS,
                counted("names", 2),
            ),
            (
                stories.STATE_ASKED,
                more(stories.TRANSFERS, 2),
                more(stories.HOLDINGS, 2),
                stories.STEPS,
                counted("numbers", 2),
                counted("sentences", 2),
            ),
        ),
        unless=CODE,
    ),
    Rule(
        name="recursive_belief",
        category="belief",
        weight=4,
        why="What one holds another to believe differs from what is so.",
        ways=(
            (stories.BELIEF_ASKED, stories.BELIEFS_NESTED),
            (stories.BELIEF_ASKED, stories.UNSEEN, counted("names", 1)),
            (stories.BELIEF_ASKED, stories.UNSEEN, stories.STORED),
            (stories.BELIEF_ASKED, stories.MINDS, counted("names", 1)),
            (stories.BELIEFS_NESTED, stories.MINDS, stories.ANY_ASKED),
            (stories.BELIEF_ASKED, stories.NOT_KNOWN, counted("sentences", 2)),
            (stories.BELIEFS_NESTED, stories.ANY_ASKED, counted("names", 1)),
        ),
        unless=CODE,
    ),
    Rule(
        name="truth_teller_chain",
        category="belief",
        weight=4,
        why="Each claim is worth what another claim makes it worth.",
        ways=(
            (stories.LIARS, stories.CLAIMS, stories.CLAIM_ASKED),
            (stories.LIARS, problems.HOW_CAN, problems.EXCLUSIVE),
            (stories.LIARS, stories.CLAIMS, stories.ANY_ASKED, counted("sentences", 3)),
        ),
    ),
    Rule(
        name="temporal_dependency",
        category="chronology",
        weight=3,
        why="The time asked follows only from how all the other times fit.",
        ways=(
            (stories.CLOCKS, stories.BEFORE, stories.TIME_ASKED),
            (more(stories.CLOCKS, 4), stories.MEETING, stories.TIME_ASKED),
            (stories.TIMELINE, stories.BEFORE, counted("sentences", 2)),
            (stories.TIME_ASKED, more(stories.BEFORE, 3), counted("numbers", 3)),
            (stories.TIME_ASKED, stories.DATES, more(stories.BEFORE, 1), counted("numbers", 4)),
            (stories.DATE_ASKED, more(stories.DATES, 3)),
            (
                stories.ORDER_ASKED,
                stories.BEFORE,
                counted("numbers", 2),
                counted("sentences", 2),
            ),
            (
                stories.TIME_ASKED,
                more(stories.DATES, 3),
                more(stories.BEFORE, 1),
                counted("numbers", 2),
            ),
        ),
        unless=CODE,
    ),
    Rule(
        name="reverse_chronology",
        category="chronology",
        weight=3,
        why="Effects come before their causes, against the order of telling.",
        ways=((stories.REVERSED, stories.NARRATED),),
        unless=CODE,
    ),
    Rule(
        name="constraint_puzzle",
        category="logic",
        weight=4,
        why="No clue decides; only their conjunction leaves one arrangement.",
        ways=(
            (
                problems.WHICH_ASKED,
                problems.PLACES,
                more(problems.EXCLUSIVE, 3),
                counted("sentences", 4),
            ),
            (
                problems.WHICH_ASKED,
                problems.CLUES,
                problems.EXCLUSIVE,
                counted("items", 3),
                more(problems.PLACES, 2),
            ),
            (
                problems.WHICH_ASKED,
                problems.ARRANGED,
                problems.RELATIVE,
                problems.ENUMERATED,
            ),
            (problems.RANK, more(problems.RELATIVE, 3)),
            (problems.WHICH_ASKED, problems.ONE_EACH, counted("names", 2)),
            (problems.ORDER_OF_STEPS, more(problems.CONDITIONS, 3)),
            (problems.DEDUCED, more(problems.RESTRICTIONS, 4), counted("sentences", 3)),
            (
                problems.RULES_GIVEN,
                stories.ANY_ASKED,
                more(problems.GENERALITIES, 3),
                counted("sentences", 4),
            ),
            (problems.HOW_CAN, more(problems.LIMITED, 2)),
            (
                problems.WHICH_ASKED,
                more(problems.RELATIVE, 2),
                more(problems.EXCLUSIVE, 3),
                counted("sentences", 3),
            ),
            (problems.GRID, problems.EXCLUSIVE, counted("numbers", 3)),
            (problems.SUSPECTS, problems.WHICH_ASKED, counted("sentences", 3)),
            (problems.ALLOCATE, problems.TASKS, problems.PREFERENCES, counted("sentences", 3)),
            (problems.HOW_CAN, problems.LIMITED, counted("numbers", 2)),
            (problems.KIN_ASKED, problems.KIN, problems.SHARED),
            (problems.PLACE_ASKED, problems.TURNS, counted("sentences", 2), problems.WALKER),
        ),
        unless=CODE,
    ),
    Rule(
        name="formal_proof",
        category="logic",
        weight=4,
        why="Every step must hold; one that merely sounds right spoils the rest.",
        ways=(
            (problems.PROOF_ASKED, problems.OBJECTS),
            (problems.VALIDITY, problems.QUANTIFIERS, problems.CONCLUDED),
            (problems.VALIDITY_ASKED, problems.QUANTIFIERS),
            (problems.TRUTH_ASKED, problems.GENERALITIES, counted("sentences", 3)),
            (problems.BASED_ON, more(problems.GENERALITIES, 3), counted("sentences", 4)),
        ),
    ),
    Rule(
        name="competition_mathematics",
        category="mathematics",
        weight=4,
        why="The method must be found before anything can be computed.",
        ways=(
            (problems.RESULT_ASKED, problems.NOTATION),
            (problems.RESULT_ASKED, problems.MATH, problems.OPERATORS),
            (problems.RESULT_ASKED, problems.VARIABLES, more(problems.OPERATORS, 2)),
            (problems.RESULT_ASKED, more(problems.OPERATORS, 3)),
            (problems.RESULT_ASKED, problems.NUMBER_THEORY, problems.MATH, counted("numbers", 2)),
            (problems.RESULT_ASKED, problems.VARIABLES, problems.SUCH_THAT),
            (problems.TRANSFORM, more(problems.OPERATORS, 2)),
            (problems.COUNTING, problems.CHOSEN),
            (problems.RESULT_ASKED, more(problems.MATH, 3), counted("numbers", 1)),
        ),
        unless=terms("function code python def return program"),
    ),
    Rule(
        name="multi_step_quantities",
        category="mathematics",
        weight=3,
        why="Several quantities are tied by prose; one slip spoils the answer.",
        ways=(
            (problems.QUANTITY_ASKED, problems.AMOUNTS, problems.RELATED),
            (
                problems.QUANTITY_ASKED,
                more(problems.AMOUNTS, 4),
                more(problems.RELATED, 2),
                counted("sentences", 3),
            ),
            (problems.QUANTITY_ASKED, problems.ESTIMATED),
            (
                problems.QUANTITY_ASKED,
                more(problems.AMOUNTS, 4),
                more(problems.RELATED, 1),
                stories.CONDITION,
            ),
            (problems.QUANTITY_ASKED, problems.AGES),
            (problems.HOW_MANY, problems.REASONED),
        ),
        unless=CODE,
    ),
    Rule(
        name="long_horizon_plan",
        category="planning",
        weight=4,
        why="An early action forbids or enables later ones.",
        ways=(
            (problems.ACTIONS, problems.CONDITIONS, problems.GOAL, counted("sentences", 4)),
            (problems.ACTIONS, problems.CONDITIONS, problems.AIM, counted("sentences", 3)),
            (problems.PLAN_ASKED, more(problems.CONDITIONS, 3), counted("numbers", 2)),
            (problems.PLAN_ASKED, more(problems.CONDITIONS, 4)),
            (
                problems.ITINERARY,
                problems.PLAN_ASKED,
                problems.CONDITIONS,
                counted("numbers", 2),
            ),
            (problems.PLAN_ASKED, more(problems.CONDITIONS, 3), problems.AIM),
            (
                problems.ITINERARY,
                problems.PLAN_ASKED,
                more(problems.CONDITIONS, 1),
                counted("numbers", 4),
            ),
        ),
        unless=CODE,
    ),
    Rule(
        name="algorithm_design",
        category="planning",
        weight=3,
        why="The program must be right on inputs that nobody lists.",
        ways=(
            (problems.BUILD, problems.ARTEFACT, problems.DEMANDS),
            (problems.BUILD, problems.MACHINERY),
            (problems.FAULT, problems.ARTEFACT, more(problems.DEMANDS, 3)),
            (problems.IMPLEMENT, problems.ARTEFACT, more(problems.DEMANDS, 1)),
        ),
    ),
)

CATEGORIES: tuple[str, ...] = tuple(dict.fromkeys(rule.category for rule in RULES))
