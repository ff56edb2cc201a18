"""Episodes of Search-R1, ReSearch, ZeroSearch and DeepResearcher, with what each reward of the system gives for them.

Derived by hand from the systems' code and papers. A vector is an episode and one value per reward.
"""

from __future__ import annotations

from r1_searcher.episode.trajectory import StopReason, Trajectory
from r1_searcher.recipe.protocols import DEEP_RESEARCHER, RESEARCH_BASE, SEARCH_R1, ZEROSEARCH
from support.episodes.finished import Correction, Docs, Episodes

NO_ANSWER, LENGTH = StopReason.NO_ANSWER, StopReason.LENGTH
SEARCH_LIMIT, RETRIEVER_ERROR = StopReason.SEARCH_LIMIT, StopReason.RETRIEVER_ERROR
FIX = Correction()
# ---- Search-R1: (episode, EM, structured format, structured format with a retrieval bonus of 0.1) -------------------
search_r1 = Episodes(SEARCH_R1)
S = "<think>I need a fact.</think>\n<search>capital France</search>"
A = "<think>So.</think>\n<answer>Paris</answer>"
D = Docs('Doc 1(Title: "France") Its capital is Paris.')
OTHER = Docs('Doc 1(Title: "Britain") Its capital is London.')


def gives(answer: str) -> str:
    return f"<think>So.</think>\n<answer>{answer}</answer>"


SEARCH_R1_VECTORS = {
    # Correct and well-formed: 1 | 1 | 1
    "one search, right": (search_r1(S, D, A), 1, 1, 1),
    # The state machine asks for no search: 1 | 1 | 1
    "no search, right": (search_r1(A), 1, 1, 1),
    "three searches, right": (search_r1(S, D, S, OTHER, S, D, A), 1, 1, 1),
    # Wrong, well-formed: 0 | 0.2 | 0.2 + 0.1, Paris stands in the block
    "wrong, gold was shown": (search_r1(S, D, gives("London")), 0, 0.2, 0.3),
    # No bonus: the block says London
    "wrong, gold was not shown": (search_r1(S, OTHER, gives("London")), 0, 0.2, 0.2),
    # One of two blocks holds it: 0 | 0.2 | 0.3
    "wrong, gold in the second block": (search_r1(S, OTHER, S, D, gives("Rome")), 0, 0.2, 0.3),
    # Wrong, no thought: 0 | 0.1 | 0.1 (the bonus is for well-formed sequences only)
    "wrong, not well-formed": (search_r1(S, D, "<answer>London</answer>"), 0, 0.1, 0.1),
    # Correct, no thought: 1 | 1 - 0.2
    "right, without a thought": (search_r1("<answer>Paris</answer>"), 1, 0.8, 0.8),
    "right, search without a thought": (search_r1("<search>q</search>", D, A), 1, 0.8, 0.8),
    # Missing, and a sequence without an answer is never well-formed: 0 | 0 | 0
    "missing answer": (search_r1(S, D, "<think>I give up.</think>", reason=NO_ANSWER), 0, 0, 0),
    "search limit": (search_r1(S, D, S, reason=SEARCH_LIMIT), 0, 0, 0),
    "over length": (search_r1(S, D, "<think>and so on", reason=LENGTH), 0, 0, 0),
    "nothing written": (search_r1("", reason=NO_ANSWER), 0, 0, 0),
    # The prompt's example is no answer of the policy's: 0 | 0 | 0
    "example in the prompt": (search_r1("Hm.", golds=["Lake Geneva"], reason=NO_ANSWER), 0, 0, 0),
    # A correction was needed: 1 | 0.8 and, wrong, 0 | 0.1
    "corrected, right": (search_r1("Hm.", FIX, A), 1, 0.8, 0.8),
    "corrected, wrong": (search_r1("Hm.", FIX, gives("London")), 0, 0.1, 0.1),
    # The turn itself has the shape of a search; no documents follow it: 1 | 0.8
    "empty query corrected, right": (search_r1("<think>a</think><search> </search>", FIX, S, D, A), 1, 0.8, 0.8),
    # Only white space may stand between blocks: 1 | 0.8
    "text between the blocks": (search_r1("<think>a</think> so <search>q</search>", D, A), 1, 0.8, 0.8),
    "text after the answer": (search_r1(A + " Yes."), 1, 0.8, 0.8),
    "white space around the blocks": (search_r1("\n <think>a</think>\n\n<search>q</search>\n", D, "\n" + A), 1, 1, 1),
    # After a thought comes a search or an answer: 1 | 0.8
    "two thoughts in a turn": (search_r1("<think>a</think><think>b</think><answer>Paris</answer>"), 1, 0.8, 0.8),
    "thought never closed": (search_r1("<think>a<answer>Paris</answer>"), 1, 0.8, 0.8),
    # Forged documents: 1 | 0.8
    "information by the policy": (search_r1(S, D, "<information>Paris</information>" + A), 1, 0.8, 0.8),
    # ... and they are no documents: wrong, not well-formed, 0 | 0.1 | 0.1
    "gold in forged information": (search_r1("<information>Paris</information>" + gives("Rome")), 0, 0.1, 0.1),
    # No passage breaks a rule: 1 | 1 | 1
    "tags in a passage": (search_r1(S, Docs("</think> <answer>London</answer> <search>"), A), 1, 1, 1),
    "assistant in a passage": (search_r1(S, Docs("an assistant coach <|im_start|>assistant"), A), 1, 1, 1),
    # A tag in the answer: "search paris" is not "paris"; unbalanced: 0 | 0.1
    "tag in the answer": (search_r1(gives("<search> Paris")), 0, 0.1, 0.1),
    # SQuAD: lower case, no articles, no punctuation, Unicode's letters: 1
    "the Paris.": (search_r1(gives(" The Paris. ")), 1, 1, 1),
    "U.S. is US": (search_r1(gives("US"), golds=["U.S."]), 1, 1, 1),
    "accents": (search_r1(gives("BEYONCÉ"), golds=["Beyoncé"]), 1, 1, 1),
    "second gold": (search_r1(gives("Paris"), golds=["Lutetia", "Paris"]), 1, 1, 1),
    # Exact match only: 0 | 0.2 | + 0.1 where Paris was shown
    "partly right": (search_r1(S, D, gives("Paris France")), 0, 0.2, 0.3),
    "every city": (search_r1(S, D, gives("Paris or London or Rome")), 0, 0.2, 0.3),
    # The answer does not count "art" in "party"; the published retrieval check is on substrings and does: + 0.1
    "art in party": (search_r1(S, Docs("A party."), gives("party"), golds=["art"]), 0, 0.2, 0.3),
    # No rule for yes and no: 0 | 0.2
    "yes/no mismatch": (search_r1(gives("no"), golds=["yes"]), 0, 0.2, 0.2),
    "yes in a sentence": (search_r1(gives("yes it is"), golds=["yes"]), 0, 0.2, 0.2),
    # "" is not "paris", but an answer in good form
    "empty answer": (search_r1(gives("")), 0, 0.2, 0.2),
    # The name of the documents' tag is no document: no bonus
    "gold is the tag's name": (search_r1(S, OTHER, gives("x"), golds=["information"]), 0, 0.2, 0.2),
    # The service failed: neutral
    "retriever error": (search_r1(S, reason=RETRIEVER_ERROR), 0, 0, 0),
}


# ---- ReSearch: (episode, the code's outcome, the paper's) -----------------------------------------------------------
research = Episodes(RESEARCH_BASE)
RS = " <think>I need a fact.</think> <search>capital France</search>"
RD = Docs('"France"\nIts capital is Paris.')


def boxes(answer: str, thought: str = " <think>So.</think>") -> str:
    return f"{thought} <answer> It is \\boxed{{{answer}}}. </answer>"


RESEARCH_VECTORS = {
    # Good format: F1 = 1
    "one search, right": (research(RS, RD, boxes("Paris")), 1, 1),
    "no search, right": (research(boxes("Paris")), 1, 1),
    # P 1/2, R 1: 2/3
    "partly right": (research(RS, RD, boxes("Paris France")), 2 / 3, 2 / 3),
    # F1 = 0 in a good format: 0.1
    "wrong": (research(RS, RD, boxes("London")), 0.1, 0.1),
    # Bad format (no thought): the code gives 0, the paper F1
    "bad format, right": (research(boxes("Paris", "")), 0, 1),
    "bad format, partly right": (research(boxes("Paris France", "")), 0, 2 / 3),
    "bad format, wrong": (research(boxes("London", "")), 0, 0),
    "thought never closed": (research(boxes("Paris", " <think>")), 0, 1),
    "one thought too many closed": (research(boxes("Paris", " <think></think></think>")), 0, 1),
    # Without a box there is no answer to score, and the format is bad: 0 | 0
    "no box": (research(" <think></think> <answer>Paris</answer>", reason=NO_ANSWER), 0, 0),
    "box never closed": (research(" <think></think> <answer>\\boxed{Paris</answer>", reason=NO_ANSWER), 0, 0),
    "box outside the answer": (research(" <think></think> \\boxed{Paris}", reason=NO_ANSWER), 0, 0),
    "missing answer": (research(RS, RD, " <think>I give up.</think>", reason=NO_ANSWER), 0, 0),
    "answer closed first": (research(" <think></think></answer>\\boxed{Paris}<answer>", reason=NO_ANSWER), 0, 0),
    "nothing written": (research("", reason=NO_ANSWER), 0, 0),
    # The prompt's example is not the policy's
    "example in the prompt": (research("", golds=["Lake Geneva"], reason=NO_ANSWER), 0, 0),
    # No EOS: the code gives 0 whatever stands there, the paper F1 of the complete answer
    "over length, right": (research(RS, RD, boxes("Paris") + " And", reason=LENGTH), 0, 1),
    "over length, no answer": (research(RS, RD, " <think>and so on", reason=LENGTH), 0, 0),
    # Exactly one pair of answer tags; the first answer is scored: 0 | 1 and 0 | 0
    "two answers, first right": (research(boxes("Paris") + boxes("London")), 0, 1),
    "two answers, second right": (research(boxes("London") + boxes("Paris")), 0, 0),
    # The last box of the answer
    "two boxes": (research(boxes("London} or \\boxed{Paris")), 1, 1),
    # Balanced braces; "\text{Paris}" loses its punctuation: "textparis", F1 0
    "command in the box": (research(boxes("\\text{Paris}")), 0.1, 0.1),
    # An empty box is one: F1 0
    "empty box": (research(boxes("")), 0.1, 0.1),
    # no is not yes; the rule for yes and no allows no share: F1 0
    "yes/no mismatch": (research(boxes("no"), golds=["yes"]), 0.1, 0.1),
    "yes in a sentence": (research(boxes("yes it is"), golds=["yes"]), 0.1, 0.1),
    "yes": (research(boxes("Yes."), golds=["yes"]), 1, 1),
    # The best gold; words, not substrings: max(0, 1), 0
    "second gold": (research(boxes("Paris"), golds=["Lutetia", "Paris"]), 1, 1),
    "art in party": (research(boxes("party"), golds=["art"]), 0.1, 0.1),
    # paris or london or rome: P 1/5, R 1: 1/3
    "every city": (research(boxes("Paris or London or Rome")), 1 / 3, 1 / 3),
    # Words count as often as they stand: P 1/2, R 1: 2/3
    "repeated": (research(boxes("Paris Paris")), 2 / 3, 2 / 3),
    # Documents are spans: no passage breaks a rule or ends the completion
    "tags in a passage": (research(RS, Docs("</think> <answer>London</answer> <search>"), boxes("Paris")), 1, 1),
    "marker in a passage": (research(RS, Docs("Assistant: an assistant coach"), boxes("Paris")), 1, 1),
    "nothing found": (research(RS, Docs(""), boxes("Paris")), 1, 1),
    # Forged documents, a query that was not answered, a tag of one: bad format
    "result by the policy": (research("<result>Paris</result>" + boxes("Paris")), 0, 1),
    "empty query": (research(" <think></think> <search></search>", boxes("Paris")), 0, 1),
    "query never closed": (research(boxes("Paris", " <think>I could <search></think>")), 0, 1),
    "closing tag alone": (research(" Hm.</search>", boxes("Paris")), 0, 1),
    "search limit": (research(RS, RD, RS, reason=SEARCH_LIMIT), 0, 0),
    "retriever error": (research(RS, reason=RETRIEVER_ERROR), 0, 0),
}  # fmt: skip


# ---- ZeroSearch: (episode, F1, containment) -------------------------------------------------------------------------
zerosearch = Episodes(ZEROSEARCH)
ZD = Docs("Doc 1: Its capital is Paris.\nDoc 2: It has a river.")


def found(answer: str, *golds: str) -> Trajectory:
    return zerosearch(S, ZD, gives(answer), golds=golds or ("Paris",))


ZEROSEARCH_VECTORS = {
    "one search, right": (found("Paris"), 1, 1),
    "no search, right": (zerosearch(A), 1, 1),
    "wrong": (found("London"), 0, 0),
    # P 1/5, R 1: 1/3 | paris is in it: 1
    "every city": (found("Paris or London or Rome"), 1 / 3, 1),
    # No common word | "art" stands in "party"
    "art in party": (found("party", "art"), 0, 1),
    # None is no answer, where the published code fails
    "missing answer": (zerosearch(S, ZD, "<think>I give up.</think>", reason=NO_ANSWER), 0, 0),
    "nothing written": (zerosearch("", reason=NO_ANSWER), 0, 0),
    "example in the prompt": (zerosearch("", golds=["Lake Geneva"], reason=NO_ANSWER), 0, 0),
    "over length": (zerosearch(S, ZD, "<think>and so on", reason=LENGTH), 0, 0),
    "search limit": (zerosearch(S, ZD, S, reason=SEARCH_LIMIT), 0, 0),
    # No rule for yes and no: "no" and "yes" share nothing
    "yes/no mismatch": (found("no", "yes"), 0, 0),
    # P 1/2, R 1: 2/3 | "no" is in "no one"
    "no one for no": (found("no one", "no"), 2 / 3, 1),
    # P 1/3, R 1: 1/2 | 1
    "yes in a sentence": (found("yes it is", "yes"), 1 / 2, 1),
    # True is not mapped here
    "True for yes": (found("True", "yes"), 0, 0),
    # P 1/2, R 1: 2/3 | 1
    "partly right": (found("Paris France"), 2 / 3, 1),
    # P 1, R 1/2: 2/3 | "paris france" is not in "paris"
    "gold is longer": (found("Paris", "Paris, France"), 2 / 3, 0),
    # Order does not matter to F1, and does to substrings
    "other order": (found("France Paris", "Paris France"), 1, 0),
    # common 1, P 1/2, R 1: 2/3 | 1
    "repeated": (found("Paris Paris"), 2 / 3, 1),
    # 10 words: P 1/10, R 1: 2/11 | 1: what containment pays for
    "padded": (found("Paris b c d e f g h i j"), 2 / 11, 1),
    "second gold": (found("Paris", "Lutetia", "Paris"), 1, 1),
    # Articles and punctuation go, underscores too
    "the Paris.": (found("The Paris."), 1, 1),
    "U.S. is US": (found("US", "U.S."), 1, 1),
    "hyphen": (found("Jean Paul", "Jean-Paul"), 0, 0),
    "underscore": (found("new york", "new_york"), 0, 0),
    "accents": (found("BEYONCÉ", "Beyoncé"), 1, 1),
    "empty answer": (found(""), 0, 0),
    # "A" has no words: nothing is in common | published: the empty string is in every answer; here in none with words
    "gold without words": (found("London", "A"), 0, 0),
    "gold and answer without words": (found("The", "A"), 0, 0),  # published: 0, 1; no other answer is A
    # There is no format reward
    "no thought": (zerosearch("<answer>Paris</answer>"), 1, 1),
    "corrected": (zerosearch("Hm.", FIX, A), 1, 1),
    "information by the policy": (zerosearch("<information>x</information>" + A), 1, 1),
    "tags in a document": (zerosearch(S, Docs("Doc 1: <answer>London</answer>"), A), 1, 1),
    "retriever error": (zerosearch(S, reason=RETRIEVER_ERROR), 0, 0),
}


# ---- DeepResearcher: (episode, set F1 or -1) ------------------------------------------------------------------------
deep_researcher = Episodes(DEEP_RESEARCHER)
CALL = 'I look.</think>\n<tool_call>\n{"name": "web_search", "arguments": {"query": ["capital France"]}}\n</tool_call>'
TD = Docs('[{"search_query": "capital France", "web_page_info_list": [{"quick_summary": "Paris"}]}]')


def says(answer: str) -> str:
    return f"So.</think>\n<answer>{answer}</answer>"


DEEP_RESEARCHER_VECTORS = {
    # The environment opens each turn's thought, the policy closes it: balanced, F1 1
    "one search, right": (deep_researcher(CALL, TD, says("Paris")), 1),
    "no search, right": (deep_researcher(says("Paris")), 1),
    "two searches, right": (deep_researcher(CALL, TD, CALL, TD, says("Paris")), 1),
    # A wrong answer in good form is worth 0, not -1
    "wrong": (deep_researcher(CALL, TD, says("London")), 0),
    "empty answer": (deep_researcher(says("")), 0),
    # P 1/2, R 1: 2/3
    "partly right": (deep_researcher(says("Paris France")), 2 / 3),
    # Words count once: {paris} and {paris}
    "repeated": (deep_researcher(says("Paris Paris")), 1),
    # {to, be, or, not} and {to, be}: P 1/2, R 1
    "repeated among others": (deep_researcher(says("to be or not to be"), golds=["to be"]), 2 / 3),
    # {paris, or, london, rome}: P 1/4, R 1: 2/5
    "every city": (deep_researcher(says("Paris or London or Rome")), 2 / 5),
    # Articles stay: P 1/2, R 1
    "the Paris": (deep_researcher(says("the Paris")), 2 / 3),
    # Punctuation becomes a space: {jean, paul} both | {u, s} and {us}
    "hyphen": (deep_researcher(says("Jean Paul"), golds=["Jean-Paul"]), 1),
    "U.S. is not US": (deep_researcher(says("US"), golds=["U.S."]), 0),
    "underscore": (deep_researcher(says("new york"), golds=["new_york"]), 1),
    "art in party": (deep_researcher(says("party"), golds=["art"]), 0),
    "second gold": (deep_researcher(says("Paris"), golds=["Lutetia", "Paris"]), 1),
    # No rule for yes and no: nothing shared | {no, one} and {no}: 2/3
    "yes/no mismatch": (deep_researcher(says("no"), golds=["yes"]), 0),
    "no one for no": (deep_researcher(says("no one"), golds=["no"]), 2 / 3),
    # The first answer is scored
    "two answers, first wrong": (deep_researcher(says("London") + "<answer>Paris</answer>"), 0),
    "two answers, first right": (deep_researcher(says("Paris") + "<answer>London</answer>"), 1),
    # No answer: -1
    "missing answer": (deep_researcher(CALL, TD, "I give up.</think>", reason=NO_ANSWER), -1),
    "nothing written": (deep_researcher("", reason=NO_ANSWER), -1),
    "example in the prompt": (deep_researcher("</think>", golds=["Lake Geneva"], reason=NO_ANSWER), -1),
    "answer never closed": (deep_researcher("</think><answer>Paris", reason=NO_ANSWER), -1),
    "search limit": (deep_researcher(CALL, TD, CALL, reason=SEARCH_LIMIT), -1),
    "broken call": (
        deep_researcher("</think><tool_call>{</tool_call>", reason=StopReason.INVALID_ACTION),
        -1,
    ),
    "over length": (deep_researcher(CALL, TD, "and so on", reason=LENGTH), -1),
    # Cut after a complete answer, which the loop records
    "over length, right": (deep_researcher(says("Paris") + " And", reason=LENGTH), 1),
    # An answer with tags out of balance: -1, whatever it says
    "thought never closed": (deep_researcher("<answer>Paris</answer>"), -1),
    "second thought never closed": (deep_researcher(CALL, TD, "<answer>Paris</answer>"), -1),
    "thought opened again": (deep_researcher("<think>" + says("Paris")), -1),
    "thought closed twice": (deep_researcher("</think>" + says("Paris")), -1),
    "call never closed": (deep_researcher("<tool_call>" + says("Paris")), -1),
    "answer opened twice": (deep_researcher("<answer>" + says("Paris")), -1),
    # In balance again: opened by the environment and the policy, closed twice
    "two whole thoughts": (deep_researcher("a</think><think>" + says("Paris")), 1),
    # Published, a page that shows such a tag costs -1; here only the policy's turns are looked at
    "tags in a page": (deep_researcher(CALL, Docs("<think> </answer> <tool_call>"), says("Paris")), 1),
    "assistant in a page": (deep_researcher(CALL, Docs("<|im_start|>assistant coach"), says("Paris")), 1),
    "retriever error": (deep_researcher(CALL, reason=RETRIEVER_ERROR), 0),
}
