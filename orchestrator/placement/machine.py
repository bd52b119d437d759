"""The CPUs, GPUs and memory of this machine, without Ray."""

from __future__ import annotations

import os

from orchestrator.placement.nodes import Node


def this_machine() -> Node:
    """This machine as the one node of an embedded cluster."""
    import torch  # counts GPUs; heavy, so only where a spec is checked

    gpus = torch.cuda.device_count()
    cpus = len(os.sched_getaffinity(0))
    return Node("this machine", cpus, (1.0,) * gpus, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
