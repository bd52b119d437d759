"""The command line: `commands.py` names the verbs and their options, and each verb has a module that carries it out:
`new_spec.py`, `validating.py`, `planning.py`, `running.py`, `status.py`, `results.py`, `rerunning.py`, `listing.py`,
`preparing.py`.
They share `options.py`, `output.py`, `opening.py` (a spec file to a sweep) and `display.py` (live progress).
This room imports from every room of the orchestrator; none imports it. Begin with `commands.py`.
"""
