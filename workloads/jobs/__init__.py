"""Job kinds: one unit of compute placed on one worker."""
