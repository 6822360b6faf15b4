"""Captions made to stress a tokenizer, and what coco-caption makes of them."""

import random
import sys


def _words(text: str) -> list[str]:
    return text.split()


PLAIN = _words("""
a an the A man woman child dogs cat bus street kitchen plate pizza sign wearing riding holding up
sitting next to in front of on two three red blue old is are with and large group""")
ODD = _words("""
woman's dogs' can't won't cannot gonna wanna 'tis 'twas I'd've it's isn’t they’re rock'n'roll
o'clock U.S. U.S U.K. e.g. i.e. etc. Mr. Mrs. Dr. St. No. no. Fig. vs. a.m. p.m. 10:30 3.5 1,000 .5
-3 +4 1/2 3/4 ½ ⅓ $5 US$5 C$ €20 £3.50 ¥500 ₹10 5¢ 50% #1 #sale @home x@y.com <x@y.org>
http://a.b/c?d=e www.foo.com foo.org/bar index.html photo.jpg readme.txt C++ C# F# AT&T R&B
S&P-500 half-eaten re-entry co-op t-shirt-wearing and/or w/ he/she 5'10" 6-ft 12-05-2010 1/2/03
555-1234 415-555-1212 (415) ( ) [ ] { } < > <b> </b> <br/> & &amp; &lt; &quot; &nbsp; -- --- - – —
… ... .. . . . ? ! ?! !!! , ; : " ' `` '' ` “ ” ‘ ’ « » ‹ › „ :) :-( ;-P ^_^ x_x * ** \\ / | ~ =
+ _ __ ° 50°C ² x³ ™ © café naïve ÜBER İstanbul Straße 北京 日本語 한국어 ไทย हिन्दी العربية 🙂
👨\u200d👩\u200d👧 ❤️ Canada-U.S. non-U.S. Inc. Corp. Co. Ltd. 'em 'n' '90s 90's B'Gosh d'Avignon
y'all Jan. Sept. Calif. Ph.D. p. pp. op. So. gimme lemme gotta more'n ol' 'till c'mon ma'am ne'er
nat'l co\u00adop ﬁne １２ Ⅳ ①""")
TIGHT = [".", ",", "!", "'s", "?", '"', ";", ":", "'", "-", "/", "…", "’s", "n't", "”", ")", "%"]
OPENING = ['"', "'", "(", "`", "“", "‘", "$", "#", "@", "-", "[", "€", "£"]
CHARACTERS = [*map(chr, range(32, 127)), *"aeiou  .,'’\"“”‘-éÉ½€…—🙂\u00ad\u00a0ñß中ก"]


def odd_captions(number: int, seed: int) -> list[str]:
    """Random captions in one line each: words, punctuation, quotes, money, Unicode, noise."""
    rng = random.Random(seed)
    return [_noise(rng) if rng.random() < 0.1 else _caption(rng) for _ in range(number)]


def _caption(rng: random.Random) -> str:
    oddness = rng.random()
    out = ""
    for _ in range(rng.randint(1, 14)):
        word = rng.choice(ODD if rng.random() < oddness else PLAIN)
        if rng.random() < 0.1:
            word = rng.choice([word.upper(), word.capitalize()])
        if rng.random() < 0.15:
            word += rng.choice(TIGHT)
        if rng.random() < 0.08:
            word = rng.choice(OPENING) + word
        out += word + ("" if rng.random() < 0.06 else " ")
    return out.strip() + rng.choice(["", ".", ".", "!", " ."])


def _noise(rng: random.Random) -> str:
    return "".join(rng.choices(CHARACTERS, k=rng.randint(0, 30)))


def official_tokens(captions: list[str]) -> list[str]:
    """What pycocoevalcap's PTBTokenizer, which runs Java, makes of them."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokens = PTBTokenizer().tokenize({i: [{"caption": c}] for i, c in enumerate(captions)})
    return [tokens[i][0] for i in range(len(captions))]


def official_scores(candidates: list[str], references: list[list[str]]) -> dict:
    """CIDEr and BLEU by pycocoevalcap of raw captions; per candidate for CIDEr."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    flat = iter(official_tokens([text for each in references for text in each]))
    gts = {i: [next(flat) for _ in each] for i, each in enumerate(references)}
    res = {i: [text] for i, text in enumerate(official_tokens(candidates))}
    total, single = Cider().compute_score(gts, res)
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    return {"cider": float(total), "single": single.tolist(), "bleu": bleu}


def corpus(number: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """Odd captions as candidates, with references that share words with them."""
    rng = random.Random(seed)
    captions = odd_captions(number, seed)
    references = []
    for caption in captions:
        words = caption.split(" ")
        references.append(
            [
                " ".join(w for w in words if rng.random() < 0.8) + rng.choice(["", ".", " etc."])
                for _ in range(rng.randint(1, 3))
            ]
        )
    return captions, references


if __name__ == "__main__":  # Writes the stored sample: python odd_captions.py FILE, with Java.
    import json
    import pathlib

    captions, references = corpus(120, seed=7)
    more = odd_captions(500, seed=8)
    sample = {
        "captions": more,
        "tokens": official_tokens(more),
        "candidates": captions,
        "references": references,
        "scores": official_scores(captions, references),
    }
    pathlib.Path(sys.argv[1]).write_text(json.dumps(sample, ensure_ascii=False, indent=0) + "\n")
