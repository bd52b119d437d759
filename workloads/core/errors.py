"""Every error a job or a spec can raise on purpose; anything else is a defect of the code."""


class MidreError(Exception):
    """Base of all errors with a message meant for the user: where, the value, the rule, the way out."""


class ConfigError(MidreError, ValueError):
    """A setting that cannot work, alone or together with another."""


class DataError(MidreError):
    """Images or labels that are missing, unreadable, or not what the spec says."""


class ShapeError(MidreError, ValueError):
    """Tensors that do not fit together."""


class DivergedError(MidreError):
    """A loss that is no longer a number."""
