"""Units of compute, one a file: a frozen config and its inputs, computed into a folder.

`base.py` defines `Job`; `train_classifier.py`, `import_classifier.py`, `import_black_box.py`, `fit_prior.py`,
`fit_surrogate.py`, `run_attack.py`, `evaluate_classifier.py` and `evaluate_attack.py` are what a plan is made of;
`target.py` and `teacher.py` are the target model as jobs find it; `probe.py` serves tests and benchmarks.
Imports from the rooms below. Begin with `train_classifier.py`.
"""
