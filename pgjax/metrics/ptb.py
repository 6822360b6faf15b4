r"""The tokenizer of caption scores, with the words that coco-caption (pycocoevalcap) compares.

coco-caption runs Stanford's PTBTokenizer 3.4.1, a generated Java scanner for the conventions of the
Penn Treebank, with `-preserveLines -lowerCase`, and drops tokens that are punctuation. The rules
below accept what that scanner accepts, except for distinctions that disappear with punctuation: the
direction of quotes, and a full stop that ends both an abbreviation and a sentence.

As in coco-caption, captions are the lines of one text, so that a caption can affect the one before
it ("plan B." followed by "The cat"). Unlike there, no caption can be split or swallow the next one:
other line separators become spaces, and a tag ends with its line.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from pgjax.metrics.lexer import Lexer, Rule

_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
_LINE_SEPARATORS = re.compile("[\n\r\x0b\x0c\u2028\u2029]")


def _characters(ranges: str) -> frozenset[str]:
    """Reads a set of characters from hexadecimal ranges."""
    ends = [[int(end, 16) for end in part.split("-")] for part in ranges.split()]
    return frozenset(chr(c) for e in ends for c in range(e[0], e[-1] + 1))


# The scanner follows Unicode 6.1, which did not have these letters and digits, but two others.
_LATER = _characters("""
37f 528-52f 560 588 5ef 860-88f 8a1 8ad-8c9 978 980 9fc af9 c34 c5a-c5d c80 cdc-cdd d04 d54-d5f
de6-def e86 e89 e8c e8e-e93 e98 ea0 ea8-ea9 eac 13f5-13fd 16f1-16f8 170d 171f 1878 191d-191e
19b0-19c0 19c8-19c9 1b4c 1c80-1cbf 1cf2-1cf3 1cfa 2c2f 2c5f 312e-312f 31bb-31bf 4db6-4dbf 9fcd-9fff
a698-a69d a78f a794-a79f a7ab-a7f7 a8fd-a8fe a9e0-a9fe aa7e-aa7f ab30-abbf""")
_EARLIER = _characters("1885-1886")
# Words may contain and begin with these accents, vowel signs and similar marks.
_MARKS = _characters("""
ad 2c2-2c5 2d2-2df 2e5-2eb 2ed 2ef-36f 375 378-379 384-385 3f6 483-487 55a-55f 591-5bd 5bf 5c1-5c2
5c4-5c5 5c7 615-61a 64b-65e 670 6d6-6e4 6e7-6ed 6fd-6fe 70f 711 730-74c 7a6-7b0 7eb-7f3 900-903 93c
93e-94e 951-955 962-963 981-983 9bc 9be-9c4 9c7-9c8 9cb-9cd 9d7 9e2-9e3 a01-a03 a3c a3e-a4f a81-a83
abc abe-acf b82 bbe-bc2 bc6-bc8 bca-bcd c01-c03 c3e-c56 d3e-d44 d46-d48 e31 e34-e3a e47-e4e eb1
eb4-ebc ec8-ecd""")
# These symbols are tokens. All others, and all beyond the basic multilingual plane, are dropped.
_SYMBOLS = _characters("""
25-26 2b 5c 5e 7c 7e a1 a6-a9 ac ae-b4 b5-ba bf d7 f7 37e 387 589 5be 5c0 5c3 5c6 5f3-5f4 600-603
606-60a 60c 614 61b 61e-61f 66a 66d 6d4 700-70d 7f6-7f8 7fa 964-965 e4f 1fbd 2016-2017 2020-2023
2030-2038 203b 203e-2042 2044 207a-207f 208a-208e 2100-214f 2190-2bff 3002 3012 30fb ff01-ff0f
ff1a-ff20 ff3b-ff40 ff5b-ff65""")


def _is_letter(char: str) -> bool:
    return (unicodedata.category(char)[0] == "L" and char not in _LATER) or char in _EARLIER


def _is_digit(char: str) -> bool:
    return unicodedata.category(char) == "Nd" and char not in _LATER


_CLASSES = {
    "l": _is_letter,
    "d": _is_digit,
    "m": _MARKS.__contains__,
    "o": _SYMBOLS.__contains__,
}


def _any(words: str) -> str:
    """Makes a pattern that matches any of the patterns, which are separated by white space."""
    return f"({'|'.join(words.split())})"


# The actions, which turn a matched text into a token.


def _keep(text: str) -> str:
    return text


def _word(text: str) -> str:
    """Removes soft hyphens; a text of only these becomes one hyphen."""
    return text.replace("\u00ad", "") or "-"


def _unbroken(text: str) -> str:
    return text.replace(" ", "\u00a0")


def _brackets(text: str) -> str:
    return text.replace("(", "-LRB-").replace(")", "-RRB-")


def _entity(text: str) -> str:
    return re.sub("&amp;", "&", text, flags=re.IGNORECASE)


def _quotes(text: str) -> str:
    """Writes quotes as LaTeX and the Penn Treebank do."""
    for pattern, plain in (
        ("&apos;", "'"),
        ('"|&quot;', "''"),
        ("[\u0091‘‛‹]", "`"),
        ("[\u0092’›]", "'"),
        ("[\u0093“«]", "``"),
        ("[\u0094”»]", "''"),
    ):
        text = re.sub(pattern, plain, text)
    return text


def _dashes(text: str) -> str:
    return "--" if len(text) in (3, 4) else text


def _fraction(text: str) -> str:
    return {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}.get(text, text)


def _currency(text: str) -> str:
    """Writes currency signs as the Penn Treebank does, with # for pounds."""
    return {"¢": "cents", "£": "#", "\u0080": "$", "¤": "$", "₠": "$", "€": "$"}.get(text, text)


def _as(token: str) -> Callable[[str], str]:
    return lambda text: token


# The parts of patterns.

_SPACE = r"[ \t\u00a0\u2000-\u200a\u3000]"
_GAP = r"[ \t\u00a0\u2000-\u200a\u3000\n\u0085]"
_ALNUM = r"[\l\d]"
_LETTER = r"([\l\m]|&[aeiouAEIOU](acute|grave|uml);)"
_WORD = rf"{_LETTER}({_LETTER}|\d)*([.!?]{_LETTER}({_LETTER}|\d)*)*"
_APOSTROPHE = r"(['\u0092\u2019]|&apos;)"
_INNER_APOSTROPHE = rf"({_APOSTROPHE}|[`\u0091\u2018\u201b])"
_COMMA = r"[,;:\u3001]"
_NAME = r"[A-Za-z][A-Za-z0-9_:.\-]*"
_TAG = (
    rf"<([!?][A-Za-z\-][^>\n]*|/{_NAME}"
    rf"|{_NAME}( +{_NAME}( *= *('[^'\n]*'|\"[^\"\n]*\"))?)* */?) *>"
)
_CLITIC = rf"{_APOSTROPHE}([msdMSD]|re|ve|ll)"
_NOT = rf"n{_INNER_APOSTROPHE}t"
_CONTRACTED = _any(rf"""
    {_APOSTROPHE}n{_APOSTROPHE}? {_APOSTROPHE}(em|[2-9]0s|till?|cause)
    ([lLdDjJ]|Dunkin|somethin|ol){_APOSTROPHE} O{_INNER_APOSTROPHE}o
    [A-HJ-XZn]{_INNER_APOSTROPHE}\l\l+ \l+[aeiouyAEIOUY]{_INNER_APOSTROPHE}[aeiouA-Z]\l*
    cont'd\.? nor'easter c'mon e'er s'mores ev'ry li'l nat'l""")

# Web addresses, and files with known extensions.
_URL = r'https?://[^ \t\n\f\r"<>|(){}]+[^ \t\n\f\r"<>|.!?(){},-]'
_SITE = (
    r'(www\.([^ \t\n\f\r"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}'
    r"""|([^ \t\n\f\r"`'<>|.!?(){},-_$]+\.)+(com|net|org|edu))"""
    r'(/[^ \t\n\f\r"<>|()]+[^ \t\n\f\r"<>|.!?(){},-])?'
)
_EMAIL = (
    r'(&lt;|<)?[a-zA-Z0-9][^ \t\n\f\r"<>|()\u00a0{}]*@([^ \t\n\f\r"<>|(){}.\u00a0]+\.)*'
    r'[^ \t\n\f\r"<>|(){}.\u00a0]+(&gt;|>)?'
)
_FILE = rf"({_LETTER}|\d)+(\.({_LETTER}|\d)+)*\." + _any("""
    bat bmp c class cgi cpp dll docx? exe gif gz h html? jar java jpe?g mov mp3 pdf php pl png ppt
    ps py sql tar txt wav x xml zip""")

# Numbers.
_NUMBER = r"[\-+]?(\d+|\d*([.:,\u00ad\u066b\u066c]\d+)+)"
_DATE = r"\d{1,2}[\-/]\d{1,2}[\-/]\d{2,4}"
_FRACTION = r"(\d{1,4}[- \u00a0])?\d{1,4}(\\?/|\u2044)\d{1,4}"
_PHONE = (
    r"(\([0-9]{2,3}\)[ \u00a0]?|(\+\+?)?([0-9]{2,4}[\- \u00a0])?[0-9]{2,4}[\- \u00a0])"
    r"[0-9]{3,4}[\- \u00a0]?[0-9]{3,5}|((\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"
)
_RAISED = r"[\u207a\u207b\u208a\u208b]?([\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)"

# Words that keep their full stop. Letters in brackets match in this case only.
_NATIONS = r"(Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(U\.K|U\.S\.S\.R)"
_ABBREVIATION = _any(r"""
    Jan Feb Mar Apr Jun Jul Aug Sept? Oct Nov Dec Mon Tues? Wed Thu(rs)? Fri
    Ala Ariz [A]z [A]rk Calif Colo Conn Ct Dak [D]el Fla Ga [I]ll Ind Kans? Ky [L]a [M]ass Md Mich
    Minn [M]iss Mo Mont Neb Nev Okla [O]re [P]a Penn Tenn [T]ex Va Vt [W]ash Wisc? Wyo
    Assn Bancorp Bhd Corp Cos? Inc Intl Ltd Plc Pp?t[ye]s? Rt Sys Univ
    al Bldg Blvd Bros (Ed|Ph)\.D Esq est etc ext Jr Rd seq sq Sr tel""")
_TITLE = _any(rf"""
    Adj Adm Adv Assoc Asst Attys? Ave Brig Capt Co?mdr Col Cpl Det Drs? Ens Ft Gen Govs? Hon Insp
    Lieut Lt Maj Messrs [M]iss Mlle Mme Mr Mrs Ms Msgr Mt Pfc Pres Profs? Pvt Reps? Rev Sens? Sfc
    Sgt Spc Ste? Supts? Alex a\.k\.a cf Cie Dept Elec Invt Jos M[ft]g Natl Ph TREAS vs Wm
    [A-Za-z](\.[A-Za-z])* {_NATIONS}""")
_NUMBERED = _any("art bldg ca figs? nos? op pp prop")
# Words that begin a new sentence after a single letter and a full stop.
_SENTENCE = _any(r"""
    [A]bout [A]ccording [A]dditionally [A]fter [A]n? [A]s [A]t [B]ut [E]arlier [H]e(re?)? [H]owever
    [I]f [I]n [I]t [L]ast [M]any [M]ore [M]r\. [M]s\. [N]ow [O]nce [O]ne [O]ther [O]ur [S]he [S]ince
    [S]o [S]ome [S]uch [T]hat [T]he [T]heir [T]hen [T]here [T]hese [T]hey [T]his [W]e [W]hat [W]hen
    [W]hile [Y]et [Y]ou""") + f"|{_TAG}"  # fmt: skip

_COMPOUND = (
    r"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(-([A-Za-z0-9\u00ad]+|"
    rf"([A-Za-z](\.[A-Za-z])+|{_NATIONS})\.))+"
)
_JOINED = rf"([dDoOlL]{_INNER_APOSTROPHE}{_ALNUM})?{_ALNUM}+"
_JOINED += rf"([-_\u058a\u2010\u2011]{_JOINED})*"
_SLASHED = r"[A-Za-z0-9]+(-[A-Za-z]+){0,2}"
_SLASHED += rf"(\\?/{_SLASHED}){{1,2}}"
_INITIALS = "[A-Z]+(([+&]|&amp;)[A-Z]+)+"
_SPELLED = _any(rf"""
    -(L|R)(R|C|S)B- C\.D\.s pro- anti- S(&|&amp;)P-500 S(&|&amp;)Ls Cap{_APOSTROPHE}n
    c{_APOSTROPHE}est""")

_FACE = r"[<>]?[:;=][\-o\*']?[\(\)DPdpO\\{@\|\[\]]"
_EYES = r"[\-\^x=~<>']"
_EASTERN_FACE = (
    rf"{_EYES}_{_EYES}|\({_EYES}[_.]?{_EYES}\)|\([\^x=~<>']-[\^x=~<>'`]\)"
    r"|[\^x=~<>]\.\[\^x=[^<\n]*<>\]"  # The original means the eyes again, but ~ is "up to" there.
)

_RULES = [
    Rule(r"c\+\+|(c|f)#", _keep),
    Rule("can", _keep, "not"),
    Rule("'t", _keep, "was|is"),
    Rule("gon|wan", _keep, "na"),
    Rule("got", _keep, "ta"),
    Rule("lem|gim", _keep, "me"),
    Rule(_TAG, _unbroken),
    Rule(r"&(MD|mdash|ndash);|[\u0096\u0097\u2013\u2014\u2015]", _as("--")),
    Rule("&amp;", _entity),
    Rule("&(HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);", _keep),
    # Words.
    Rule(_WORD, _word, _CLITIC),
    Rule(r"[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*", _word, _NOT),
    Rule(_WORD, _word),
    Rule(_CONTRACTED, _keep),
    Rule(f"y{_APOSTROPHE}", _keep, r"\l"),
    Rule(f"{_URL}|{_SITE}|{_EMAIL}", _keep),
    Rule(rf"@[a-zA-Z_][a-zA-Z_0-9]*|#{_LETTER}+", _keep),
    Rule(f"{_CLITIC}|{_NOT}", _quotes, "[^A-Za-z]"),
    # Numbers and money.
    Rule(_DATE, _keep),
    Rule(_NUMBER, _word),
    Rule(_RAISED, _keep),
    Rule(_FRACTION, _unbroken),
    Rule(r"[\u00bc-\u00be\u2153-\u215e]", _fraction),
    Rule(_SPELLED, _entity),
    Rule(_SLASHED, _keep),
    Rule(r"[A-Z]*\$|#", _keep),
    Rule(r"[\u0080¢-¥\u060b\u0e3f₠₤€\uffe0\uffe1\uffe5\uffe6]", _currency),
    # Abbreviations.
    Rule("[A-Za-z]", _keep, rf"\.{_GAP}+({_SENTENCE}){_GAP}"),
    Rule(rf"{_NUMBERED}\.", _keep, rf"{_GAP}?\d"),
    Rule(r"(pt[eyEY]|co)\.", _keep, f"{_SPACE}(ltd|lim)"),
    Rule(rf"{_ABBREVIATION}\.", _keep, ".."),
    # At the end of the text, the full stop also ends the abbreviation.
    Rule(_ABBREVIATION, lambda text: f"{text}.", r"\."),
    Rule(rf"{_TITLE}\.", _keep),
    Rule(_NATIONS, _keep, _GAP),
    Rule(f"{_APOSTROPHE}[0-9][0-9]", _keep, _GAP),
    Rule(_FILE, _keep, rf"{_GAP}|[.?!,]"),
    Rule(rf"{_WORD}\.", _word, _COMMA),
    Rule(_PHONE, lambda text: _brackets(_unbroken(text))),
    # Brackets, faces and other signs.
    Rule('"|&quot;', _quotes),
    Rule("<|&lt;", _as("<")),
    Rule(">|&gt;", _as(">")),
    Rule(_FACE, _brackets, "[^A-Za-z0-9]"),
    Rule(_EASTERN_FACE, _brackets),
    Rule(r"[\(\)]", _brackets),
    Rule(r"\[", _as("-LSB-")),
    Rule(r"\]", _as("-RSB-")),
    Rule(r"\{", _as("-LCB-")),
    Rule(r"\}", _as("-RCB-")),
    Rule("-+", _dashes),
    Rule(r"\.{3,5}|[\u0085\u2026]|(\.[ \u00a0]){2,4}\.", _as("...")),
    Rule(rf"@+|#+|_+|\*+|(\\\*){{1,3}}|[?!]+|[.=/]|{_COMMA}", _keep),
    # Compounds.
    Rule(rf"{_COMPOUND}\.", _word, _COMMA),
    Rule(_COMPOUND, _word),
    Rule(rf"{_JOINED}\.", _keep, _COMMA),
    Rule(_JOINED, _keep),
    Rule(rf"{_INITIALS}\.", _entity, _COMMA),
    Rule(_INITIALS, _entity),
    # Quotes.
    Rule("'", _quotes, r"[A-Za-z][^ \t\n\r\u00a0]"),
    Rule(
        f"{_CLITIC}|{_NOT}|{_APOSTROPHE}|''"
        r"|[`\u2018-\u201f\u0091-\u0094\u2039\u203a\u00ab\u00bb]{1,2}",
        _quotes,
    ),
    Rule(r"<<|>>|\o", _keep),
    Rule(f"{_SPACE}+|&nbsp;", _as("")),
]


@functools.cache
def _lexer() -> Lexer:
    return Lexer(_RULES, _CLASSES)


def ptb_tokenize(captions: Sequence[str]) -> list[str]:
    """Splits captions into words as coco-caption does.

    Args:
      captions: the captions of a corpus, in order.

    Returns:
      For each caption, its words without punctuation, in lower case, joined by single spaces.
    """
    if not captions:
        return []
    text = "\n".join(_LINE_SEPARATORS.sub(" ", caption) for caption in captions)
    wide = max(text, default="") > "\uffff"
    if wide:  # Java sees characters beyond the basic multilingual plane as two.
        units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2")
        text = "".join(map(chr, units.tolist()))
    lines: list[list[str]] = [[]]
    lexer, at, vain = _lexer(), 0, set()
    while at < len(text):
        if text[at] == "\n":
            lines.append([])
            at += 1
            vain.clear()  # what lies before is not scanned again
            continue
        rule, found = lexer.match(text, at, vain)
        at += len(found)
        # A character that no rule matches is dropped.
        if token := rule.action(found).lower() if rule else "":
            lines[-1].append(token)
    # coco-caption reads the scanner's output this way; a token may end in spaces beyond ASCII.
    words = [
        " ".join(word for word in " ".join(line).rstrip().split(" ") if word not in _PUNCTUATION)
        for line in lines
    ]
    if wide:
        words = [
            w.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for w in words
        ]
    return words
