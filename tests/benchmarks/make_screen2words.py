"""Screen2Words: a row per summary; screens of a split in a text file."""

from fixture import picture, write


def make(folder):
    rows = [f"{i},summary {n} of {i}" for n in range(5) for i in (54137, 8, 9)]
    write(folder / "screen_summaries.csv", "screenId,summary\n" + "\n".join(rows) + "\n")
    expected = {}
    for split, screen in (("train", 54137), ("dev", 8), ("test", 9)):
        write(folder / f"split/{split}_screens.txt", f"{screen}\n")
        write(folder / f"combined/{screen}.jpg", picture(screen))
        summaries = [f"summary {n} of {screen}" for n in range(5)]
        expected[split] = [{"image_id": screen, "answers": summaries}]
    return expected
