"""VQA accuracy: agreement with several annotators.

Antol et al., "VQA: Visual Question Answering" (arXiv:1505.00468): "an answer is deemed 100%
accurate if at least 3 workers provided that exact answer", accuracy = min(#humans that said it / 3,
1). The VQA v2 evaluation (visualqa.org/evaluation.html) averages this over the 10 sets of 9
annotators that leave one out, after cleaning up predictions and answers.
"""

import functools
import re

from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS

_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBERS = "zero one two three four five six seven eight nine ten"

# The contractions that the official code restores where one apostrophe was dropped.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't
would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""

_REPLACEMENTS = {
    **{
        word[: m.start()] + word[m.end() :]: word
        for word in _CONTRACTIONS.split()
        for m in re.finditer("'", word)
    },
    "somebody'd": "somebodyd",  # Sic; the official table has it the wrong way around.
    "none": "0",
    **{word: str(number) for number, word in enumerate(_NUMBERS.split())},
}


@functools.lru_cache(maxsize=65_536)  # most answers are among a few thousand
def clean_answer(text: str) -> str:
    """Normalises an answer as the official VQA v2 evaluation does, its oddities included.

    Punctuation becomes a space, or vanishes where the text has it beside a space or has a comma
    between digits anywhere; full stops vanish unless a digit follows; then lower case, articles
    out, number words to digits, apostrophes into contractions.
    """
    comma_in_number = re.search(r"\d,\d", text)
    out = text
    for p in _PUNCTUATION:
        vanishes = comma_in_number or f"{p} " in text or f" {p}" in text
        out = out.replace(p, "" if vanishes else " ")
    out = re.sub(r"\.(?!\d)", "", out, count=32)  # Sic; a flag was given as a count there.
    words = [word for word in out.lower().split() if word not in _ARTICLES]
    return " ".join(_REPLACEMENTS.get(word, word) for word in words)


@METRICS.register("vqa_accuracy", main="acc")
def vqa_accuracy(
    prediction: str, meta: dict, *, leave_one_out: bool = True, lower: bool = False
) -> dict[str, float]:
    """Accuracy against the annotators' answers.

    Args:
      prediction: decoded answer.
      meta: `answers`, one per annotator (10 in VQA v2), and optionally `answer_type`.
      leave_one_out: the official VQA v2 score: the mean over annotators i of min(m_i / 3, 1), m_i
        of the others agreeing with the prediction. Answers are cleaned up (`clean_answer`) where
        the annotators do not all agree, as officially, so that a unanimous "yes" must be met
        exactly. False (OK-VQA, A-OKVQA, VizWiz): min(m / 3, 1) on the text as it is.
      lower: compare in lower case.

    Returns:
      `acc` in 0..1, the same as `acc/<answer_type>` (less its "/") where the example has that
      key; nothing for an example without answers.
    """
    answers = references(meta)
    if not answers:
        return {}
    if lower:
        prediction, answers = prediction.lower(), [answer.lower() for answer in answers]
    if leave_one_out:
        prediction, *answers = (re.sub(r"[\n\t]", " ", a).strip() for a in [prediction, *answers])
        if len(set(answers)) > 1:
            prediction, *answers = map(clean_answer, [prediction, *answers])
    matches = [answer == prediction for answer in answers]
    n = sum(matches)
    if leave_one_out:
        acc = sum(min((n - match) / 3, 1) for match in matches) / len(matches)
    else:
        acc = min(n / 3, 1)
    scores = {"acc": acc}
    if "answer_type" in meta:
        scores[f"acc/{meta['answer_type'].replace('/', '')}"] = acc
    return scores
