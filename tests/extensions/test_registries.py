"""What registries promise, and that every table of pgjax is one."""

import re
import sys

import pytest
from conftest import ROOT

from pgjax import registry
from pgjax.errors import UserError
from pgjax.registry import METRICS, Registry, import_extensions, imported_extensions

ALL = {name: x for name, x in vars(registry).items() if isinstance(x, Registry)}


def something():
    """A function to register."""


def test_registering_and_finding():
    things = Registry("thing", [])
    assert things.register("one")(something) is something
    things.register("two")(2)
    assert dict(things) == {"one": something, "two": 2} and len(things) == 2
    assert things.find("one", "config.thing") is something
    with pytest.raises(
        UserError, match=r"^config.thing: 'onne' is not a known thing; did you mean 'one'\?$"
    ):
        things.find("onne", "config.thing")
    for name in ("xyzzy", None, 3, ["one"]):
        with pytest.raises(UserError, match=r"is not a known thing; expected one of one, two\.$"):
            things.find(name, "config.thing")


def test_a_name_belongs_to_one_definition():
    things = Registry("thing", [])
    things.register("one")(something)
    things.register("one")(something)
    with pytest.raises(UserError, match=r"thing 'one' is registered by .*something and by .*int;"):
        things.register("one")(int)
    things.register("two")((1, 2))
    things.register("two")((1, 2))  # as a notebook does that runs a cell again
    with pytest.raises(UserError, match=r"by \(1, 2\) and by \(1, 3\); .* another name\.$"):
        things.register("two")((1, 3))


def test_a_metric_is_declared_with_its_name(monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS))
    METRICS.register("mine", main="distance", lower_is_better=True)(something)
    mine = METRICS["mine"]
    assert (mine.function, mine.main, mine.lower_is_better) == (something, "distance", True)
    assert (mine.corpus, mine.needs) == (False, ())
    with pytest.raises(UserError, match=r"'other' needs \['model'\], expected some of \['draw'\]"):
        METRICS.register("other", main="x", needs=("model",))
    assert METRICS["cider"].corpus and METRICS["segmentation"].needs == ("draw",)


@pytest.mark.parametrize("name", ALL)
def test_home_modules_are_all_those_that_register(name):
    """A registry that forgets a module would know its things only where it happens to be there."""
    source = (ROOT / "pgjax" / "registry.py").read_text()
    source = source[source.index("OPS: ") :]
    listed = set(re.findall(r'"(\w+)"', source))
    for path in sorted((ROOT / "pgjax").glob("*/*.py")):
        if re.search(rf"^ *@?{name}\.register\(", path.read_text(), re.M):
            assert path.stem in listed and path.parent.name in listed, path
    assert len(ALL[name]) > 1


def test_modules_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "outside_a.py").write_text("X = 1\n")
    (tmp_path / "outside_b.py").write_text("1 / 0\n")
    (tmp_path / "outside_c.py").write_text(
        "from pgjax.registry import OPS\n@OPS.register('decode')\ndef mine(x): return x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_IMPORTED", [])
    import_extensions(())
    import_extensions(["outside_a", "outside_a"])
    assert "outside_a" in sys.modules and imported_extensions() == ("outside_a",)
    with pytest.raises(
        UserError, match=r"config.imports: .*'outside_b' cannot be imported \(division by zero\)"
    ):
        import_extensions(["outside_a", "outside_b"])
    with pytest.raises(UserError, match=r"'outside_x' .*No module named .*PYTHONPATH\.$"):
        import_extensions(["outside_x"])
    with pytest.raises(UserError, match=r"expected a tuple of modules: \('outside_a',\)\.$"):
        import_extensions("outside_a")
    len(registry.OPS)
    with pytest.raises(UserError, match="op 'decode' .*ops_image.decode and by outside_c.mine"):
        import_extensions(["outside_c"])
