"""CIDEr-D, BLEU and ROUGE-L of tokenized texts, with the results of coco-caption."""

import collections
import math
from collections.abc import Sequence

N = 4  # the length of the longest n-grams
Tokens = Sequence[str]


def _ngrams(tokens: Tokens) -> list[collections.Counter]:
    """Counts the 1-grams, …, N-grams of a text."""
    return [
        collections.Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
        for n in range(1, N + 1)
    ]


# The weights of the n-grams of a text for each n, the norms of these vectors, and a length.
_Vectors = tuple[list[dict[tuple[str, ...], float]], list[float], int]


def cider_d(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], *, sigma: float = 6.0
) -> list[float]:
    """Computes CIDEr-D (Vedantam et al., arXiv:1411.5726) of each candidate.

    The score of a corpus is the mean over its candidates. n-grams are weighted by their inverse
    document frequency, where a document is all references of one candidate. A single candidate
    scores 0, because then every weight is 0.

    Args:
      candidates: [n], the tokens of each candidate.
      references: [n], the tokens of each candidate's references, of which it has at least one.
      sigma: the standard deviation of the Gaussian penalty on a difference in length, in bigrams.

    Returns:
      [n] scores in 0..10.
    """
    counts = [[_ngrams(tokens) for tokens in each] for each in references]
    documents = collections.Counter(
        ngram for each in counts for ngram in {g for ref in each for n in ref for g in n}
    )
    log_number = math.log(max(len(candidates), 1))

    def weigh(ngrams: list[collections.Counter]) -> _Vectors:
        vectors = [
            {g: tf * (log_number - math.log(max(1, documents[g]))) for g, tf in n.items()}
            for n in ngrams
        ]
        norms = [math.sqrt(sum(w * w for w in vector.values())) for vector in vectors]
        return vectors, norms, ngrams[1].total()  # coco-caption measures lengths in bigrams.

    def similarity(candidate: _Vectors, reference: _Vectors) -> float:
        (hyp_vectors, hyp_norms, hyp_length), (vectors, norms, length) = candidate, reference
        total = 0.0
        for hyp, ref, norm in zip(
            hyp_vectors, vectors, map(float.__mul__, hyp_norms, norms), strict=True
        ):
            if norm:  # Weights are clipped, so that repeating a word of the reference does not pay.
                total += sum(min(w, ref[g]) * ref[g] for g, w in hyp.items() if g in ref) / norm
        return total / N * math.exp(-((hyp_length - length) ** 2) / (2 * sigma**2))

    scores = []
    for tokens, refs in zip(candidates, counts, strict=True):
        candidate = weigh(_ngrams(tokens))
        total = sum(similarity(candidate, weigh(ref)) for ref in refs)
        scores.append(10 * total / len(refs))
    return scores


def bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> list[float]:
    """Computes BLEU-1, …, BLEU-4 of a corpus (Papineni et al., ACL 2002), without smoothing.

    The brevity penalty takes, for each candidate, the reference that is closest in length.

    Args:
      candidates: [n], the tokens of each candidate.
      references: [n], the tokens of each candidate's references, of which it has at least one.

    Returns:
      [4] scores in 0..1.
    """
    right, said = [0] * N, [0] * N
    length = reference_length = 0
    for tokens, refs in zip(candidates, references, strict=True):
        length += len(tokens)
        reference_length += min((abs(len(ref) - len(tokens)), len(ref)) for ref in refs)[1]
        counted = [_ngrams(ref) for ref in refs]
        for n, counts in enumerate(_ngrams(tokens)):
            most = collections.Counter()
            for ref in counted:
                most |= ref[n]
            right[n] += (counts & most).total()
            said[n] += counts.total()
    # coco-caption's constants, which prevent divisions by zero on empty corpora.
    tiny, small = 1e-15, 1e-9
    ratio = (length + tiny) / (reference_length + small)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for n in range(N):
        product *= (right[n] + tiny) / (said[n] + small)
        scores.append(product ** (1 / (n + 1)) * brevity)
    return scores


def rouge_l(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], *, beta: float = 1.2
) -> float:
    """Computes ROUGE-L of a corpus (Lin, ACL 2004): the mean over its candidates.

    Precision and recall are the length of the longest common subsequence over those of the
    candidate and of a reference; the best of each over the references counts.

    Args:
      candidates: [n], the tokens of each candidate.
      references: [n], the tokens of each candidate's references, of which it has at least one.
      beta: how much more recall counts than precision.

    Returns:
      A score in 0..1.
    """
    total = 0.0
    for tokens, refs in zip(candidates, references, strict=True):
        # Texts without words count as one empty word, as in coco-caption.
        hypothesis, truths = tokens or [""], [ref or [""] for ref in refs]
        common = [_common_length(hypothesis, ref) for ref in truths]
        precision = max(common) / len(hypothesis)
        recall = max(n / len(ref) for n, ref in zip(common, truths, strict=True))
        if precision and recall:
            total += (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    return total / len(candidates)


def _common_length(a: Tokens, b: Tokens) -> int:
    """The length of the longest common subsequence (Hyyrö, "Bit-parallel LCS-length", 2004)."""
    places = collections.defaultdict(int)  # by token, a bit for each place in `a` where it stands
    for i, token in enumerate(a):
        places[token] |= 1 << i
    everywhere = row = (1 << len(a)) - 1
    for token in b:
        same = row & places.get(token, 0)
        row = ((row + same) | (row - same)) & everywhere
    return len(a) - row.bit_count()
