"""Generative priors: what an attacker knows of the domain, one per file or package.

`base.py` defines `Prior`; `adversarial.py` is the training loop that all GANs here share, `staged.py` what
style-based generators add; `conditional.py`, `residual.py` and `enlarging.py` are parts of networks. Imports from the
rooms below. Begin with `base.py`, then `wgan_gp.py`.
"""
