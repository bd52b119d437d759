"""`python -m orchestrator` is `midre`."""

from orchestrator.cli.commands import main

main()
