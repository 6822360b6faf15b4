"""VQA accuracy, which measures the agreement of an answer with several annotators.

Antol et al., "VQA: Visual Question Answering" (arXiv:1505.00468), take an answer for fully right if
at least 3 annotators gave it: the accuracy is min(m / 3, 1) for m annotators. The official VQA v2
evaluation (visualqa.org/evaluation.html) averages this over the 10 subsets of 9 annotators, after
normalising prediction and answers.
"""

import functools
import re

from pgjax.errors import DataError
from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS

_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBERS = "zero one two three four five six seven eight nine ten"

# The official code restores these contractions if one apostrophe is missing.
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
    "somebody'd": "somebodyd",  # The official table has this one reversed.
    "none": "0",
    **{word: str(number) for number, word in enumerate(_NUMBERS.split())},
}


@functools.lru_cache(maxsize=65_536)  # Most answers are among a few thousand.
def clean_answer(text: str) -> str:
    """Normalises an answer exactly as the official VQA v2 evaluation does.

    A punctuation mark becomes a space; it is deleted instead if it stands beside a space anywhere
    in the text, or if the text has a comma between digits. Full stops are deleted unless a digit
    follows. Then the text is lowercased, articles are removed, number words become digits, and
    contractions get their apostrophe back.
    """
    comma_in_number = re.search(r"\d,\d", text)
    out = text
    for p in _PUNCTUATION:
        vanishes = comma_in_number or f"{p} " in text or f" {p}" in text
        out = out.replace(p, "" if vanishes else " ")
    out = re.sub(r"\.(?!\d)", "", out, count=32)  # The official code passes a flag as the count.
    words = [word for word in out.lower().split() if word not in _ARTICLES]
    return " ".join(_REPLACEMENTS.get(word, word) for word in words)


@METRICS.register("vqa_accuracy", main="acc")
def vqa_accuracy(
    prediction: str,
    meta: dict,
    *,
    leave_one_out: bool = True,
    lower: bool = False,
    leave_out: str = "",
) -> dict[str, float]:
    """Scores an answer by the number of annotators who gave it.

    Args:
      prediction: the decoded answer.
      meta: holds `answers`, one per annotator (10 in VQA v2), and optionally `answer_type`.
      leave_one_out: whether to compute the official VQA v2 score, the mean over annotators i of
        min(m_i / 3, 1), where m_i of the others agree with the prediction. Texts are normalised
        (`clean_answer`) only if the annotators disagree, as in the official code, so that a
        unanimous "yes" must be matched exactly. False gives min(m / 3, 1) on the text as it is
        (OK-VQA, A-OKVQA, VizWiz).
      lower: whether to ignore case.
      leave_out: the key of a flag; an example where it is set gets no score. A-OKVQA leaves out
        `difficult_direct_answer`.

    Returns:
      `acc` in 0..1, and the same value as `acc/<answer_type>` (without any "/" in the type) if the
      example has one; or an empty dict for an example without answers, or one left out.

    Raises:
      DataError: the example lacks the key `leave_out`.
    """
    if leave_out and leave_out not in meta:
        raise DataError(
            f"The metric vqa_accuracy leaves out examples by the key {leave_out!r}, but the "
            f"example has {list(meta)}; data of an older version lack it, and pgjax prepare makes "
            "them anew."
        )
    answers = references(meta)
    if not answers or (leave_out and meta[leave_out]):
        return {}
    if lower:
        prediction, answers = prediction.lower(), [answer.lower() for answer in answers]
    if leave_one_out:
        prediction, *answers = (re.sub(r"[\n\t]", " ", a).strip() for a in [prediction, *answers])
        if len(set(answers)) > 1:
            prediction, *answers = map(clean_answer, [prediction, *answers])
        acc = _leave_one_out(prediction, answers)
    else:
        acc = min(answers.count(prediction) / 3, 1)
    scores = {"acc": acc}
    if "answer_type" in meta:
        scores[f"acc/{meta['answer_type'].replace('/', '')}"] = acc
    return scores


@METRICS.register("textvqa", main="acc")
def textvqa(prediction: str, meta: dict) -> dict[str, float]:
    """Scores an answer about text in a photograph (Singh et al., arXiv:1904.08920), in two ways.

    TextVQA's own evaluation, the processor of its EvalAI challenge as in MMF, differs from that of
    VQA v2 in its clean-up alone: it lowercases first, deletes commas and question marks, parts "'s"
    from its word, and cleans up where the annotators agree as well, so that `Yes` is `yes`.

    Args:
      prediction: the decoded answer.
      meta: holds `answers`, one per annotator (10).

    Returns:
      `acc` in 0..1 as `vqa_accuracy` computes it, which is how PaliGemma was measured on the
      validation split, and `acc_textvqa` by TextVQA's own clean-up; or an empty dict for an example
      without answers.
    """
    scores = vqa_accuracy(prediction, meta)
    if scores:
        cleaned = [_clean_textvqa(text) for text in [prediction, *references(meta)]]
        scores["acc_textvqa"] = _leave_one_out(cleaned[0], cleaned[1:])
    return scores


def _clean_textvqa(text: str) -> str:
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return clean_answer(re.sub(r"[\n\t]", " ", text).strip())


def _leave_one_out(prediction: str, answers: list[str]) -> float:
    """The mean over annotators i of min(m_i / 3, 1), where m_i of the others agree."""
    n = answers.count(prediction)
    return sum(min((n - (answer == prediction)) / 3, 1) for answer in answers) / len(answers)
