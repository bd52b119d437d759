"""What data sets read with: `decoding.py` turns bytes into images, `raw.py` reads a download as it lies on disk,
`idx.py` reads the files of the MNIST family.
"""
