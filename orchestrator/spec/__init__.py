"""The experiment spec: `model.py` defines it, `loading.py` reads and resolves it, `checks.py` holds it against data and
machine, `apply.py` puts a point of the search into it, `search_space.py` describes the search, `yaml_source.py` keeps
line numbers, `messages.py` words every problem. Imports `errors.py` and `workloads`. Begin with `model.py`.
"""
