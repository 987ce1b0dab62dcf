"""How benchmarks are asked, and how they tell: the same options and the same line for a figure."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any


def run_and_tell(
    about: str | None,
    run: Callable[[bool], dict[str, Any]],
    *,
    row_line: Callable[[Mapping[str, Any]], str] | None = None,
    targets: Mapping[str, float] | None = None,
) -> None:
    """Run as the command line says, and print what came of it, one JSON object with `--json`.

    `about`: the benchmark's docstring. `run` hears whether a smoke run is asked for, and returns
    its name, `figures` and `rows`. People read a `row_line` for each row, if there is one, and the
    figures, beside their `targets`.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0] if about else "")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    asked = parser.parse_args()
    answer = run(asked.quick)
    if asked.json:
        json.dump(answer, sys.stdout)
        print()
        return
    if row_line is not None:
        for row in answer["rows"]:
            print(row_line(row))
    for name, value in answer["figures"].items():
        target = f"  (target {targets[name]:g})" if targets and name in targets else ""
        print(f"{name:<36} {value:12.3f}{target}")
