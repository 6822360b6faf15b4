"""MMVP: a misspelt column, options in one text, the right one as a letter in brackets."""

from fixture import picture, write

_CSV = """lndex,Question,Options,Correct Answer
1,Are the wings open or closed?,(a) Open (b) Closed,(a)
2,Are the wings open or closed?,(a) Open (b) Closed,(b)
3,"Is it red, or blue?","(a) Red, all of it (b) Blue",(a)
4,"Is it red, or blue?","(a) Red, all of it (b) Blue",(b)
"""


def make(folder):
    write(folder / "Questions.csv", _CSV)
    for i in range(1, 5):
        write(folder / f"MMVP Images/{i}.jpg", picture(i))
    answers = ["Open", "Closed", "Red, all of it", "Blue"]
    return {
        "test": [
            {"question_id": i + 1, "pair": i // 2, "answers": [answer],
             "choices": [answers[i // 2 * 2], answers[i // 2 * 2 + 1]]}
            for i, answer in enumerate(answers)
        ]
    }  # fmt: skip
