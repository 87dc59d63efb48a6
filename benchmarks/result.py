"""What a benchmark found: figures, and the targets that they are held against."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

HOLDS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True)
class Target:
    """A rule on one figure, such as `<= 1.0`."""

    figure: str
    rule: str
    bound: float

    def holds(self, value: float) -> bool:
        """Whether the value keeps the rule."""
        return bool(HOLDS[self.rule](value, self.bound))


@dataclass
class Result:
    """Figures by name, in the order in which they were noted. A figure's name ends in its unit.

    Remarks, below the table, say what a figure alone does not, or why there is none.
    """

    benchmark: str
    targets: tuple[Target, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)

    def note(self, **figures: float) -> None:
        """Add figures."""
        self.figures.update(figures)

    def remark(self, **remarks: str) -> None:
        """Add words."""
        self.remarks.update(remarks)

    @property
    def holds(self) -> bool:
        """Whether every target was measured and holds."""
        return all(
            target.figure in self.figures and target.holds(self.figures[target.figure]) for target in self.targets
        )

    def show(self, *, as_json: bool) -> None:
        """Print the table, and as the last line the JSON object if asked for."""
        table = Table(title=self.benchmark, title_justify="left")
        table.add_column("figure", no_wrap=True)
        table.add_column("value", justify="right")
        table.add_column("target", justify="right")
        table.add_column("holds")
        rules = {target.figure: target for target in self.targets}
        for name, value in self.figures.items():
            target = rules.get(name)
            table.add_row(
                name,
                f"{value:,.4g}",
                f"{target.rule} {target.bound:g}" if target else "",
                ("yes" if target.holds(value) else "NO") if target else "",
            )
        Console().print(table)
        for name, words in self.remarks.items():
            print(f"{name}: {words}")
        if as_json:
            print(json.dumps(self.as_dict()))

    def as_dict(self) -> dict[str, object]:
        """The object of `--json`."""
        return {
            "benchmark": self.benchmark,
            "figures": self.figures,
            "targets": [
                {
                    "figure": target.figure,
                    "value": self.figures.get(target.figure),
                    "target": f"{target.rule} {target.bound:g}",
                    "holds": target.figure in self.figures and target.holds(self.figures[target.figure]),
                }
                for target in self.targets
            ],
            "remarks": self.remarks,
        }
