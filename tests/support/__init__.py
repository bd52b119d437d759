"""What tests share and what is no test itself.

- `paths.py` says where the repository's folders are.
- `components.py` lists every registered component, with a config for each.
- `toy.py` builds a whole sweep on digits that runs in seconds, and reads its numbers.
- `training.py` trains a network small enough to work out its steps by hand.
- `interruptions.py` stops a job at a step, so that a test can see whether it resumes with the same bits.
- `processes.py` watches and ends processes that a test starts, and waits for what they do.
- `golden_networks.py` holds the tiny networks behind the golden numbers, and those numbers.
- `lenses.py` counts the images that an attack shows the target model through its lenses.
- `staged_networks.py` gives the same networks as priors that are made of stages.
- `evidence.py` builds what metrics are computed from, and the context of the job that computes them.
- `neighbours.py` computes precision, recall, density and coverage with scikit-learn.
- `downloads.py` writes the layouts of published data sets with a few tiny images.
- `draws.py` draws normal numbers that are the same under the same name.
"""
