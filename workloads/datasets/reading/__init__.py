"""What data sets read with: `decoding.py` turns any image into 8-bit RGB, `folders.py` says which files are images,
`parts.py` which part of a published split a name means. `stored.py` is the base of data sets whose images are stored
encoded, `raw.py` that of downloads as they lie on disk, `idx.py` that of the MNIST family.
"""
