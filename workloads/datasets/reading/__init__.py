"""What data sets read with: `decoding.py` turns bytes into images, `raw.py` walks a download as it lies and crops
faces, `idx.py` reads the files of the MNIST family.
"""
