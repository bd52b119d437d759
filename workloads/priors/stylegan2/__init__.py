"""StyleGAN2 as a prior, fitted here or read from published weights.

`prior.py` is the component: its settings and what attacks ask of it. `networks.py` holds the generator and the critic,
built from `layers.py`; `training.py` and `adaptive_augmentation.py` hold what fitting needs. `convert.py` is a command
that turns a published pickle into plain weights; `pickled_networks.py` reads such a pickle without executing it.
"""

from workloads.priors.stylegan2.prior import StyleGan2 as StyleGan2
