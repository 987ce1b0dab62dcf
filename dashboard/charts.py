"""Trends in the browser: uPlot (MIT, vendored with its licence) as a Streamlit component.

A refresh changes the data and keeps the zoom. Everything the browser needs travels with the
page; nothing is fetched from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

_FOLDER = Path(__file__).parent / "components"


def trend(data: Mapping[str, Any], key: str) -> None:
    """Show what `dashboard.view.trend.message` made. Keep `key` to keep the zoom."""
    _component()(key=key, data=dict(data))


@cache
def _component() -> Any:
    """The component, made once per process: making it again would replace every chart."""
    uplot = _FOLDER / "uplot"
    css = _read(uplot / "uPlot.min.css") + "\n" + _read(_FOLDER / "trend.css")
    script = _read(uplot / "uPlot.iife.min.js") + "\n" + _read(_FOLDER / "trend.js")
    return st.components.v2.component(
        "plantwright_trend",
        html=f'<style>\n{css}\n</style><div class="pw-trend"></div>',
        js=script,
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
