"""The experiment spec: `model.py` defines it, `loading.py` reads and resolves it, `checks/` compares it with data and
machines, `apply.py` puts a point of the search into it, `yaml_source.py` keeps line numbers, `extending.py` puts a spec
over the one it extends, `overriding.py` what `--set` says over both, `messages.py` words every problem, `hints.py` its
way out, `reference.py` says what a spec can say. Imports `errors.py`, `search/`, `placement/` and `workloads`. Begin
with `model.py`.
"""
