"""A caption tokenizer for any language, for scores of COCO-35L and XM3600.

PaliGemma's public code runs coco-caption's English tokenizer on every language, which takes a
clause without spaces for one word; to compare with its numbers, use tokenizer="ptb". This tokenizer
extends the `zh` tokenization of sacreBLEU (Post, arXiv:1804.08771), in which every Chinese
character is a word, to all scripts that are written without spaces: Chinese characters, kana, Thai,
Lao, Khmer and Burmese, each character with its combining marks. In all other scripts, including
Korean, words end at spaces, punctuation and symbols. No dictionary is needed, so results do not
depend on the version of one.
"""

import re
import unicodedata
from collections.abc import Sequence

# The code points of scripts that are written without spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035"  # iteration marks
    "\u3041-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")


def multilingual_tokenize(captions: Sequence[str]) -> list[str]:
    """Splits captions into words.

    Args:
      captions: captions in any languages.

    Returns:
      For each caption, its words without punctuation, normalised (NFKC) and in lower case, joined
      by single spaces.
    """
    return [" ".join(_words(caption)) for caption in captions]


def _words(caption: str) -> list[str]:
    words: list[str] = []
    inside = False  # whether the last character belongs to a word
    joins = False  # whether a letter would continue that word
    for char in unicodedata.normalize("NFKC", caption).lower():
        kind = unicodedata.category(char)[0]
        belongs = inside and (kind == "M" or char in "\u200c\u200d")
        if belongs or (joins and char in "'’"):
            words[-1] += char
        elif kind not in "LN":
            inside = joins = False
        elif _UNSPACED_CHARACTER.match(char):
            words.append(char)
            inside, joins = True, False
        elif joins:
            words[-1] += char
        else:
            words.append(char)
            inside = joins = True
    return [word.rstrip("'’") for word in words]
