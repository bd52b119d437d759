"""What attacks are built of; the attacks themselves stand in `workloads/attacks/`.

- `attack.py` defines an attack: its settings, what it is given (`Access`), what it returns (`Reconstructions`).
- `row_search.py` is the loop of an attack that searches row by row, with checkpoints, progress and early ends.
- `step.py` is what tells one step from another, on the device; `row_step.py` leaves rows alone that are done.
- `captured_step.py` records a step on a GPU as a CUDA graph, and repeats it.
- `gradient_search.py` is the step of every attack that descends on a loss of images.
- `rows.py` names the reconstructions under way and draws random numbers that do not depend on a row's batch.
- `memory_batches.py` splits rows into as many at once as memory holds.
- `optimizers.py` moves variables down a gradient: Nesterov, momentum, Adam.
- `early_stop.py` lets a row end whose loss has settled.
- `selection.py` ranks and chooses reconstructions by the target model alone.
- `latent_pool.py` draws a pool of latents and starts each search from its best entries.
- `class_conditional_search.py` searches the latents of a class of a conditional prior (PLG-MI, LOKT).
- `style_search.py` descends on the Poincare distance from the best styles of a pool (PPA, IF-GMI).
- `variational.py` holds distributions over latents that are fitted to each identity (VMI).
- `genetic_operators.py` breeds populations of latents: parents, crossover, mutation (MIRROR).
- `soft_actor_critic.py` trains one reinforcement-learning agent a row (RLB-MI).
- `p_space.py` maps styles to where they are closer to normal, and bounds them there.
- `l1_ball.py` projects vectors onto an l1 ball.
- `stacked_networks.py` runs one small network a row as batched products.
- `folded_networks.py` merges batch norms into convolutions, which halves a frozen network's cost.
- `frozen_convolutions.py` computes their gradients by convolutions, which GPUs do deterministically and fast in fp32.
- `wrapped_attack.py` is what an attack around another attack is configured by.

A step reads nothing from the device, copies nothing to it and makes no generator: `Rows` lie on it, random numbers come
from counters, and the host looks at the rows every 25 steps (`step.LOOK_EVERY`), where a checkpoint is due, and at ends
of stages. Before the first step (pools, starts) and after the last one (ranking) the host may wait.

Imports from the rooms below. Begin with `attack.py`, then `row_search.py` and `gradient_search.py`.
"""
