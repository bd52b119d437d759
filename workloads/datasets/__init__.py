"""Images with identities: one data set a file, and what reads and prepares them.

`base.py` defines `Dataset`, `ImageSet` and how they are split; `resident.py` keeps images on a GPU; `reading/` decodes
images and lists the files of a download, `preparation/` turns a download into Parquet, `avatars/` draws faces.
Imports from `core` alone. Begin with `base.py`, then `digits.py`, the smallest data set.
"""
