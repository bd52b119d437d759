"""The command line: `commands.py` names the verbs, `console.py` runs a sweep and shows its results, `display.py` shows
progress, `preparing.py` is `midre data prepare`. Imports from every room of the orchestrator; none imports it.
"""
