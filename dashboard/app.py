"""The web page's script: look, navigation, headline, and the page that was chosen.

Start it with the command line of `dashboard.server.arguments`.
"""

from __future__ import annotations

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from dashboard import header, shell
from twin.errors import PlantwrightError


def main() -> None:
    """Draw the shell around the chosen page."""
    st.set_page_config(page_title="Plantwright", layout="wide")
    shell.style()
    chosen = st.navigation(
        [
            st.Page("screens/overview.py", title="Overview", default=True),
            *_of_its_kind(),
            st.Page("screens/trend.py", title="Trend"),
            st.Page("screens/advice.py", title="Advice"),
            st.Page("screens/stages.py", title="Stages"),
            st.Page("screens/data.py", title="Data"),
            st.Page("screens/audit.py", title="Audit"),
        ],
        position="top",
    )
    header.show()
    if shell.is_open():
        chosen.run()


def _of_its_kind() -> list[StreamlitPage]:
    """Pages for what only some plants have."""
    try:
        plant, _ = shell.plant_and_latch()
    except PlantwrightError:
        return []  # the header says what is wrong
    return [st.Page("screens/furnace.py", title="Furnace")] if plant.furnace else []


main()
