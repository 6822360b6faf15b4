"""The report of a run of the suite, as Markdown and as JSON."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import pgjax
from pgjax.conformance.suite import Finding, Report

# How each result is spelled of several checks, in the order of the summary.
_SEVERAL = {
    "agrees": "agree",
    "differs": "differ",
    "not offered": "not offered",
    "fails": "fail",
}


def markdown(reports: Iterable[Report]) -> str:
    """Writes a section with a table for each report."""
    return "\n".join(line for report in reports for line in _section(report))


def as_json(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """The same, as JSON can hold it: an infinite difference, of shapes, is null."""
    result = [dataclasses.asdict(report) for report in reports]
    for report in result:
        for finding in report["findings"]:
            if finding["difference"] == math.inf:
                finding["difference"] = None
    return result


def _section(report: Report) -> list[str]:
    found = [finding.result for finding in report.findings]
    numbers = {result: found.count(result) for result in _SEVERAL if result in found}
    counts = [f"{n} {result if n == 1 else _SEVERAL[result]}" for result, n in numbers.items()]
    return [
        f"## {report.adapter}, {report.family}",
        "",
        f"{report.versions}; pgjax {pgjax.__version__}. Expected: the outputs of "
        f"{report.made_with}. Of {len(report.findings)} checks: {', '.join(counts)}.",
        "",
        "| check | result | largest difference | tolerated | what differs |",
        "| --- | --- | --- | --- | --- |",
        *map(_row, report.findings),
        "",
    ]


def _row(finding: Finding) -> str:
    result = f"**{finding.result}**" if finding.is_fault else finding.result
    size, most = "", ""
    if finding.difference is not None and finding.tolerance is not None:
        size = f"{_number(finding.difference)} {finding.unit}"
        most = _number(finding.tolerance)
    text = finding.text.replace("|", "\\|").replace("<", "&lt;")
    return f"| {finding.check} | {result} | {size} | {most} | {text} |"


def _number(x: float) -> str:
    if x == math.inf:
        return "another shape,"
    return f"{x:.0f}" if x == round(x) else f"{x:.2g}"
