"""Every error that a job or a spec raises on purpose; any other is a bug."""


class MidreError(Exception):
    """Base of all errors whose message is meant for the user: where, the value, the rule, the way out."""


class ConfigError(MidreError, ValueError):
    """A setting that cannot work, alone or together with another."""


class DataError(MidreError):
    """Images or labels that are missing, unreadable, or not what the spec says.

    Args:
        reason: the rule, the value and the way out.
        field: the field of the data set's settings that is at fault, if it is one.
    """

    def __init__(self, reason: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.reason = reason
        self.field = field


class ShapeError(MidreError, ValueError):
    """Tensors that do not fit together."""


class OtherMachineError(MidreError):
    """A job under strict numerics that came to another kind of machine than the one its key names."""


class PluginError(MidreError):
    """A package with components that is missing, has another version, or cannot be imported."""


class AnswerError(MidreError):
    """A target model, of which only answers are known, that cannot be asked or answers otherwise than stated."""


class BudgetError(MidreError):
    """A job that would ask a service more often than it may."""


class JobStopped(MidreError):
    """A job that was asked to end before it was done; it goes on from its checkpoint."""


class DivergedError(MidreError):
    """A loss that is no longer a number."""
