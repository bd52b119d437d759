"""Target models that are asked and never opened: programs in files, and functions that stand for a service.

`box.py` defines what one is and checks its answers; `program.py` runs TorchScript and exported programs, after
`program_files.py` has looked at what they would run; `service.py` calls a Python function, counted and paced by
`meter.py`. `stored.py` leaves one as an artifact and reads it back. Begin with `box.py`.
"""
