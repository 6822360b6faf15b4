"""Runs the checks on an adapter."""

import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Literal

from pgjax.conformance.adapter import Adapter, versions
from pgjax.conformance.checks import CHECKS, Case, Check
from pgjax.conformance.stored_outputs import StoredOutputs
from pgjax.conformance.tiny_models import ModelFiles, parameters, write_models
from pgjax.errors import UserError

Result = Literal["agrees", "differs", "not offered", "fails"]
_LONGEST = 300  # characters of another program's message


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
      check: its name.
      result: whether all outputs are as expected; `fails` where the adapter raised an error.
      difference: the largest difference; None where nothing was compared.
      tolerance: how much that one may differ.
      unit: of both.
      text: where they differ, by how much, and the probable cause.
    """

    check: str
    result: Result
    difference: float | None
    tolerance: float | None
    unit: str
    text: str

    @property
    def is_fault(self) -> bool:
        """Whether the implementation is not as expected."""
        return self.result in ("differs", "fails")


@dataclasses.dataclass(frozen=True)
class Report:
    """What the checks of one family found.

    Attributes:
      adapter: the name under which the adapter was given.
      family: of the tiny model.
      versions: of the adapter's packages.
      made_with: the programs that computed what is expected.
      findings: one for each check.
    """

    adapter: str
    family: str
    versions: str
    made_with: str
    findings: list[Finding]


def run(adapter: type[Adapter], family: str, name: str = "") -> Report:
    """Runs all checks.

    Args:
      adapter: the class, which is made with the files of a tiny model.
      family: `paligemma` or `paligemma2`.
      name: what the report calls the adapter; "" for the class's name.

    Raises:
      UserError: the adapter cannot load the model, for want of a package or otherwise.
    """
    stored = StoredOutputs(family)
    stored.check_model(parameters(family))
    with model_files(family) as files:
        loaded = load(adapter, files)
        findings = [run_check(check, loaded, stored) for check in CHECKS]
    name = name or adapter.__name__
    return Report(name, family, versions(adapter), stored.made_with, findings)


@contextlib.contextmanager
def model_files(family: str) -> Iterator[ModelFiles]:
    """A context in which the files of a tiny model lie in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="pgjax_conformance_") as folder:
        yield write_models(family, pathlib.Path(folder))


def load(adapter: type[Adapter], files: ModelFiles) -> Adapter:
    """Makes an adapter.

    Raises:
      UserError: it cannot load the model.
    """
    try:
        return adapter(files)
    except UserError:
        raise
    except Exception as e:
        raise UserError(
            f"{adapter.__name__} cannot load the tiny model of {files.family} ({_said(e)})."
        ) from e


def run_check(name: str, adapter: Adapter, stored: StoredOutputs) -> Finding:
    """Runs one check, by its name in `CHECKS`."""
    check, cases, failure = CHECKS[name], [], None
    try:
        for case in check.cases(adapter, stored):
            cases.append(case)
    except NotImplementedError as e:
        failure = Finding(name, "not offered", None, None, check.unit, str(e))
    except Exception as e:  # whatever another implementation raises
        failure = Finding(name, "fails", None, None, check.unit, _said(e))
    if failure and (failure.is_fault or not any(case.differs for case in cases)):
        return failure
    return _summary(name, check, cases)


def _summary(name: str, check: Check, cases: list[Case]) -> Finding:
    wrong = [case for case in cases if case.differs]
    worst = max(wrong or cases, key=lambda case: case.difference)
    text = ""
    if wrong:
        told = next((case for case in wrong if case.cause), worst)
        count = f"{len(wrong)} of {len(cases)} cases differ, such as " if len(cases) > 1 else ""
        text = f"{count}{told.where}: {told.cause}" if told.cause else f"{count}{told.where}"
    result: Result = "differs" if wrong else "agrees"
    return Finding(name, result, worst.difference, worst.tolerance, check.unit, text)


def _said(e: Exception) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())}"[:_LONGEST]
