"""Errors that a user can cause and mend: one sentence what is wrong, one what to do."""


def printable(text: object) -> str:
    r"""One line of text that a terminal shows as it is: what would steer it is escaped, as in ``\x1b``.

    Names of files, fields of catalogs and keys of weights are a stranger's: they may hold anything.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class ZooError(Exception):
    """Base of all errors the zoo raises on purpose; the command line prints them without a traceback."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(ZooError):
    """A configuration names an unknown class or argument, or a value out of its range."""


class DataError(ZooError):
    """A data set is missing, or an image has another size, channel count or range than the model."""


class WeightsError(ZooError):
    """A weight file is missing, truncated or altered, or does not fit its configuration."""


class CatalogError(ZooError):
    """The catalog has a bad field, or no entry of the asked name."""


class DivergenceError(ZooError):
    """Training left the stable region: a loss is not finite or energies ran away."""


class Stopped(BaseException):
    """The process was told to end, by Ctrl-C or a signal; as with KeyboardInterrupt, only the command line takes it.

    Args:
        number: of the signal.
        state: what is kept, for a message.
    """

    def __init__(self, number: int, state: str = "nothing unfinished was written") -> None:
        super().__init__(number, state)
        self.number, self.state = number, state
