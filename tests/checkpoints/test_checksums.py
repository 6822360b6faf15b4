"""Checksums tell every change of a checkpoint's files from what was saved."""

import random
import shutil

import pytest

from pgjax.checkpoints.checksums import CHECKSUMS_FILE, find_damage, has_checksums, write_checksums

SIZES = {"a": 0, "b": 1, "d/small": 1000, "d/block": 1 << 20, "d/more": (3 << 20) + 5}


@pytest.fixture(scope="module")
def sealed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed") / "step_1"
    rng = random.Random(0)
    for name, size in SIZES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(size))
    write_checksums(folder)
    return folder


@pytest.fixture
def folder(sealed, tmp_path):
    return shutil.copytree(sealed, tmp_path / "step_1")


def test_what_was_saved_is_whole(folder):
    assert has_checksums(folder)
    assert find_damage(folder) == ""
    (folder / ".nfs0001").write_text("of no concern")
    assert find_damage(folder) == ""


def test_without_checksums_nothing_is_known(folder):
    (folder / CHECKSUMS_FILE).unlink()
    assert not has_checksums(folder)
    assert find_damage(folder) == ""


@pytest.mark.parametrize("name", [name for name, size in SIZES.items() if size] + [CHECKSUMS_FILE])
def test_a_flipped_byte_is_found_wherever_it_is(folder, name):
    path, rng = folder / name, random.Random(name)
    whole = path.read_bytes()
    places = {0, len(whole) - 1, len(whole) // 2, *(rng.randrange(len(whole)) for _ in range(30))}
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        assert find_damage(folder) != "", place
        path.write_bytes(whole)
    assert find_damage(folder) == ""


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("d/more", lambda p: p.unlink(), "d/more is missing"),
        ("d/more", lambda p: p.write_bytes(b""), "d/more has 0 bytes of 3145733"),
        ("d/more", lambda p: p.write_bytes(p.read_bytes()[:-1]), "3145732 bytes of 3145733"),
        ("d/more", lambda p: p.write_bytes(p.read_bytes() + b"\0"), "3145734 bytes of 3145733"),
        ("d/block", lambda p: p.write_bytes(bytes(1 << 20)), "d/block has other bytes"),
        (
            "d/more",  # two blocks change places
            lambda p: p.write_bytes(
                (d := p.read_bytes())[1 << 20 : 2 << 20] + d[: 1 << 20] + d[2 << 20 :]
            ),
            "d/more has other bytes",
        ),
        (CHECKSUMS_FILE, lambda p: p.write_bytes(b""), "is damaged itself|cannot be read"),
        (CHECKSUMS_FILE, lambda p: p.write_bytes(b"\xff\xfe"), "cannot be read"),
        (
            CHECKSUMS_FILE,
            lambda p: p.write_text("".join(p.read_text().splitlines(keepends=True)[:-2])),
            "is damaged itself",
        ),
    ],
)
def test_the_damage_is_named(folder, name, change, told):
    import re

    change(folder / name)
    assert re.search(told, find_damage(folder))


def test_work_is_divided_and_items_are_chosen(folder):
    (folder / "d/small").write_bytes(b"x")
    found = [find_damage(folder, share=(k, 3)) for k in range(3)]
    assert sum(bool(text) for text in found) == 1
    assert find_damage(folder, items=[]) == ""
    assert find_damage(folder, items=["d"]) != ""
    (folder / "a").write_bytes(b"x")  # files beside the items are always read
    assert find_damage(folder, items=[]) != ""
