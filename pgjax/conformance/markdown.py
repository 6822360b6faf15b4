"""The report of a run of the suite, as Markdown and as JSON."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import pgjax
from pgjax.conformance.suite import Finding, Report


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
    counts = [
        f"{sum(f.result == result for f in report.findings)} {result}"
        for result in ("agrees", "differs", "not offered", "fails")
        if any(f.result == result for f in report.findings)
    ]
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
