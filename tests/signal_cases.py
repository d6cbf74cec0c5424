"""Texts for each detection rule: those that must fire it, and near-misses that must not.

Written for the tests, none taken from a benchmark. A near-miss has words of the rule in an easy
question; it may fire nothing at all, since it is checked to stay below the threshold.
"""

FIRES: dict[str, tuple[str, ...]] = {
    "counterfactual_physics": (
        "Imagine that gravity suddenly became twice as strong. What would happen to rivers, trees "
        "and the orbit of the Moon?",
        "Suppose light travelled at the speed of a bicycle. Describe what a cyclist would see and "
        "how time would behave for her.",
        "If water were denser as ice than as a liquid, how would lakes freeze, and what would be "
        "different about life in them?",
        "Consider a universe in which like electric charges attract and opposite charges repel. "
        "Explain what would become of atoms.",
        "Assume friction vanished everywhere at noon. Derive the consequences for a car in motion.",
        "Pretend the law of conservation of energy holds only on Tuesdays, with mass "
        "increasing instead. What would follow for a pendulum's motion, and how would you explain "
        "the energy it has?",
    ),
    "counterfactual_world": (
        "What if the printing press had never reached Europe?",
        "How would trade have developed if the Suez Canal had not been built?",
        "Suppose a fictional society in which nobody may own land. What would its courts do "
        "differently from ours?",
        "If Rome had lost the Second Punic War, which languages might be spoken in Spain today?",
        "In an alternate timeline the transistor was invented in 1850. How might the telegraph "
        "companies have changed?",
        "What would have happened had the fleet turned back before the storm?",
        "How might chess have evolved if the queen had kept her old, weak move?",
    ),
    "causal_consistency_constraint": (
        "Write a time-travel plot in which every event has a cause, with no paradox and no "
        "contradiction between the two timelines. Suppose the traveller had never left: what "
        "would be different?",
        "Extend this timeline so that each new event stays causally consistent with all earlier "
        "ones. If the king had not died in chapter two, which effects must change?",
        "Design the rules of a world whose history must remain coherent: no effect may precede "
        "its cause. What if the war had never begun?",
    ),
    "causal_inference": (
        "Tom watered the plants on Monday. His flatmate, unaware of it, watered them on Monday "
        "evening as well. The plants drowned. Had only one of them done it, they would have "
        "lived. Did Tom cause the death of the plants?",
        "People who take the drug recover more often than people who do not. Doctors give the drug "
        "mainly to the young. Age affects recovery. Does the drug cause recovery, or does age "
        "explain the effect?",
        "The chance of a flood is 20% when the dam is open and 5% when it is closed. The dam is "
        "open on 30% of days. Is the overall probability of a flood larger than 10%?",
        "The manager knew that the new line would harm the river. She did not care about the "
        "river. She wanted profit. The line was built and the river was harmed. Did she harm the "
        "river intentionally, and is she to blame for the result?",
        "Smoking leads to tar in the lungs, and tar has a direct effect on cancer. Suppose we "
        "block the tar. Would smoking still cause cancer in this model, and would the effect be "
        "smaller? Ana smokes. Ana has no tar.",
    ),
    "acrostic_constraint": (
        "Write a poem about autumn whose lines spell the word HARVEST with their first letters.",
        "Compose an acrostic of my name, Miriam, each line of it a full sentence.",
        "Tell me the story of the fox in sentences that never use the letter e.",
        "Write a paragraph in which every word starts with the same letter as the one before it.",
        "Create a sentence about rain that is a palindrome, letter by letter.",
        "Answer in exactly five words, all of them an anagram of a colour.",
    ),
    "progressive_form_constraint": (
        "Write a story in which each sentence is one word longer than the previous one.",
        "Describe Lisbon so that the last word of every sentence is the first word of the next.",
        "Give me a text where the number of words per line is increasing: one, two, three, up to "
        "ten.",
        "Respond in paragraphs that alternate: every second paragraph must end with the word it "
        "started with.",
        "Compose ten lines; no two consecutive lines may begin with the same letter.",
    ),
    "hidden_state_tracking": (
        "Ana, Ben and Cleo each hold a card: Ana the red one, Ben the blue one, Cleo the green "
        "one. First Ana and Ben swap. Then Ben and Cleo swap. Finally Cleo and Ana swap. What "
        "card does Ben have now?",
        "At the start Rita has the lamp, Omar has the rope and Lin has the map. Rita gives the "
        "lamp to Omar, then Omar passes the rope to Lin. After that Lin hands the map to Rita. "
        "Who holds the rope at the end?",
        "A pea is under the left of three cups. Dora moves the left cup to the middle, then Emil "
        "switches the middle and right cups, and then Dora lifts the left one and puts it last, "
        "before Emil turns all of them. Where is the pea now?",
        "Box A holds a pen, box B a key, box C nothing. Kim puts the pen in box C. Next, Kim "
        "moves the key to box A. Then Jo empties box C into box B while Kim watches Jo. Which box "
        "is the pen in at the end?",
    ),
    "recursive_belief": (
        "Sally puts her marble in the basket and leaves. Anne moves it to the box. Where will "
        "Sally look for her marble when she returns?",
        "Does Maria believe that Paul knows that she has read his letter?",
        "Jon saw Eva hide the ring. Eva does not know that Jon saw it. Where does Jon think that "
        "Eva thinks the ring is?",
        "Each sage sees the hats of the others but not her own. Does the first know that the "
        "second knows that the third is certain?",
        "Lea told Max the party was cancelled, which Tim overheard without Lea noticing. What does "
        "Lea think Tim will say to Max?",
    ),
    "truth_teller_chain": (
        "On an island of knights and knaves, A says that B is a knave and B says they are of "
        "different kinds. Who is the knight?",
        "Nora says Piet lies. Piet says Quinn tells the truth. Quinn lies. Does Nora tell the "
        "truth?",
        "Four suspects were asked who broke the vase. Exactly one of them is lying. Al said it was "
        "Bo, Bo said it was Cy, Cy said Bo lied. Who is guilty?",
        "Two guards stand at two doors; one always lies, one is always truthful. What is the one "
        "question whose answer states which door is true, if each says the other is the liar?",
    ),
    "temporal_dependency": (
        "Mia woke up at 6am. Kate saw her at the gym from 7am to 8am, and she was at work from 9am "
        "to 5pm. Between what times could she have visited the library?",
        "A meeting needs one hour. Ann is free 9:00-10:30 and after 14:00, Bob until 10:00 and "
        "from 15:30. What time can they both make it?",
        "The parcel left on Tuesday, two days after the invoice, which came three days before the "
        "end of the month, a Thursday. Before the parcel left there was a holiday. What date was "
        "the invoice?",
        "If the train leaves at 22:45, takes 3 hours to the border, waits until 4:10 and reaches "
        "the city at 9:05 local time, one hour later, how long is the second leg?",
    ),
    "reverse_chronology": (
        "Tell the story of the bank robbery in reverse chronological order, so that each scene "
        "explains the one told before it.",
        "Starting with the collapse of the bridge, work backwards through the events to the first "
        "mistake.",
        "These diary entries are out of order. Reconstruct the sequence of events from what each "
        "presupposes.",
        "Narrate her life from the last day to the first, keeping every cause after its effect.",
    ),
    "constraint_puzzle": (
        "Five friends sit in a row. Ann sits left of Bea. Cora sits at one end. Dan is not next to "
        "Bea. Eve is in the middle. Who sits at the far right?",
        "Three books stand on a shelf, each of a different colour. The red book is to the right of "
        "the green one. The blue book is the leftmost. Only one is heavier than the rest. Which "
        "is in the middle?",
        "There are four houses, each painted a different colour. The baker does not live next to "
        "the smith. The smith's house is immediately left of the green one. The tailor lives in "
        "the first house, and none of them lives opposite the park. Who lives in the green house?",
        "In a race, Iva finished before Jan. Jan finished after Ken but before Lou. Lou was not "
        "last. Exactly one runner, Mo, was slower than Lou. Two never met. Who came third?",
    ),
    "formal_proof": (
        "Prove that the square root of 7 is irrational.",
        "Show by induction that the sum of the first n odd numbers is a square.",
        "Demonstrate that every finite group of prime order is cyclic.",
        "All smiths are singers. No singer is a miser. Therefore no smith is a miser. Is the "
        "argument valid?",
        "Premises: if the lamp is on then someone is home; nobody is home or the dog barks; the "
        "dog does not bark. Does it follow that the lamp is not on?",
        "Give a rigorous proof of the triangle inequality.",
    ),
    "competition_mathematics": (
        "Find the number of positive integers less than 1000 divisible by 7 but not by 11.",
        "If x + y = 12 and xy = 20, compute x^2 + y^2.",
        "A circle is inscribed in a triangle with sides 13, 14 and 15. What is its radius?",
        "Evaluate $\\sum_{k=1}^{20} \\frac{1}{k(k+1)}$.",
        "Let f(x) = 3x - 2. What is the value of f(f(2))?",
        "Two dice are rolled. What is the probability that the sum is a multiple of 3?",
    ),
    "multi_step_quantities": (
        "A baker sells 24 loaves each day at 3 dollars per loaf and twice as many rolls at half "
        "the price. How much does he earn in a week?",
        "Lena had 40 stickers. She gave a quarter to her brother and then bought 15 more, 6 of "
        "which she lost. How many are left?",
        "The tank holds 300 litres and leaks 4 litres per hour. After 12 hours 50 litres are "
        "added. How many more hours until it is empty?",
        "Estimate how many piano tuners work in Chicago; explain your assumptions per year.",
        "A shirt costs 20% less than a coat, the coat costs three times the 30 dollar scarf. What "
        "is the total cost of all three?",
    ),
    "long_horizon_plan": (
        "A farmer must bring a wolf, a goat and a cabbage across a river. The boat carries only "
        "one of them at a time. The goat cannot be left with the cabbage. Nor can the wolf be "
        "left with the goat. Give the shortest sequence of moves that gets all across.",
        "I can load, drive and unload a truck. A truck must be empty before it is loaded. "
        "Initially parcel 1 is in the depot. The goal is to have parcel 1 at the airport. What "
        "plan of actions achieves it?",
        "Plan a trip of nine days through three cities. I need to meet a friend in Rome between "
        "day 2 and day 4. There are only direct trains from Rome to Milan. The budget must not "
        "exceed 900 euro in the end.",
        "Assign six nurses to three shifts for a week. No nurse may work two shifts in a row. "
        "Each must have two days free. Find a schedule that meets all of it with the fewest "
        "overtime hours.",
    ),
    "algorithm_design": (
        "Implement a function that returns the longest common subsequence of two strings.",
        "Write a Python program that finds the shortest path in a weighted graph, in better than "
        "quadratic time.",
        "Develop an algorithm that keeps the running median of a stream of integers in "
        "logarithmic time.",
        "Design a thread-safe cache class with constant-time lookup and least recently used "
        "eviction.",
        "Create a SQL query that lists the top three customers of each month by the sum of their "
        "orders, handling ties.",
    ),
}

MISSES: dict[str, tuple[str, ...]] = {
    "counterfactual_physics": (
        "What is the gravity on the Moon?",
        "Imagine you are a travel agent and write me a short advert for Iceland.",
        "How does light bend in water?",
        "What temperature should the oven have if I want the bread to be lighter?",
    ),
    "counterfactual_world": (
        "What if it rains tomorrow?",
        "I had a great holiday. Write a review of the hotel.",
        "If you had to choose one book for a beginner, which would you pick?",
        "What had the committee decided at its last meeting, according to the minutes?",
    ),
    "causal_consistency_constraint": (
        "Is this paragraph consistent in tense?",
        "List the main events of the French Revolution.",
        "Keep the tone consistent in every email.",
    ),
    "causal_inference": (
        "What causes rain?",
        "Does coffee cause insomnia?",
        "Summarise the effects of the new tax in two sentences.",
        "What is the probability of rain?",
        "Which of these causes rust: water, sand, or oil?",
    ),
    "acrostic_constraint": (
        "What is an acrostic?",
        "Who invented the palindrome?",
        "Write a letter to my landlord about the broken heating.",
        "Write a function that checks whether a word is a palindrome.",
        "Sort these words alphabetically: pear, apple, fig.",
    ),
    "progressive_form_constraint": (
        "Write a short paragraph about Lisbon in simple words.",
        "Summarise the text in three sentences.",
        "What is the last word of the Bible?",
        "Generate a sentence that uses all of these words: dog, ball, park.",
    ),
    "hidden_state_tracking": (
        "How do I swap two rows in a spreadsheet?",
        "Pass the salt to Ann, then start the dishwasher.",
        "Who has the most goals in the league now?",
        "Write an email that tells Ben the meeting moved to room 4.",
    ),
    "recursive_belief": (
        "What do you think about this logo?",
        "Who believes in reincarnation?",
        "I think she is right. How do I apologise?",
        "Does the library know my address?",
        "Where can I look for cheap flights?",
    ),
    "truth_teller_chain": (
        "Who told the truth about Watergate?",
        "Write a poem about a knight.",
        "My friend lied to me. What should I say to her?",
        "Is it true that bats are blind?",
    ),
    "temporal_dependency": (
        "What time is it in Tokyo?",
        "When was the treaty signed?",
        "Remind me to call at 5pm.",
        "The shop is open from 9am to 5pm. Put that in a friendly sentence.",
    ),
    "reverse_chronology": (
        "List the kings of Denmark in chronological order.",
        "How do I reverse a list in Python?",
        "Tell me a story about a backward village.",
        "What is the order of the planets?",
    ),
    "constraint_puzzle": (
        "Which house is on the left in the photo?",
        "Who finished first in the 1996 Olympic marathon?",
        "Put these films in order of release.",
        "What is the tallest building in Europe, and which one is second?",
    ),
    "formal_proof": (
        "What is a valid passport for travel to Peru?",
        "Show me a recipe for soup.",
        "Is my argument in this email polite?",
        "I need proof of address for the bank.",
    ),
    "competition_mathematics": (
        "What is 7 times 8?",
        "Find a good restaurant near the square.",
        "What is a real estate agent's average salary?",
        "Which factor matters most when buying a bike?",
    ),
    "multi_step_quantities": (
        "How many people live in Brazil?",
        "How much is a train ticket to Graz?",
        "How many calories are there in 100 g of rice?",
        "What is the total cost of ownership?",
    ),
    "long_horizon_plan": (
        "Plan a birthday party for my son.",
        "What are the steps to reset my password?",
        "Give me a meal plan for a week.",
        "What is the goal of chess?",
    ),
    "algorithm_design": (
        "What does this function do?",
        "How do I install Python on a Mac?",
        "Write a product description for a string of pearls.",
        "Create a class schedule for the gym.",
    ),
}
