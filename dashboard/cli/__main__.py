"""`python -m dashboard.cli`: how our own processes are started, without the installed command."""

from dashboard.cli import main

main()
