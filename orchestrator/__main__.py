"""`python -m orchestrator` is `midre`."""

from orchestrator.cli import main

main()
