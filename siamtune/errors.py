"""The faults that siamtune tells a person about, each with its command's exit code."""


class SiamtuneError(Exception):
    """A fault with a message for a person: what must hold, what was got, what to do."""

    exit_code = 1


class UsageError(SiamtuneError):
    """A command line that cannot be carried out as written."""

    exit_code = 2


class InvalidInput(SiamtuneError):
    """A file, folder or value that a person handed over and that cannot be used."""

    exit_code = 3


class SpaceError(InvalidInput):
    """A space file with one or more faults; the message lists them all, one a line."""


class ConfigError(InvalidInput):
    """A trial configuration that names unknown keys, breaks bounds or cannot be built."""


class DataError(InvalidInput):
    """Pictures that cannot be trained or evaluated on."""


class CheckpointError(InvalidInput):
    """A checkpoint or exported model that is truncated, foreign or of another version."""


class NoTrialSucceeded(SiamtuneError):
    """A search that ended without a single usable trial."""

    exit_code = 4


class Unwritable(SiamtuneError):
    """A run folder or a cache that cannot be written any more: the disk is full or gone."""

    exit_code = 5


class ClusterError(SiamtuneError):
    """A cluster that cannot run what was asked for."""

    exit_code = 6


class TrialCollapsed(SiamtuneError):
    """A training that can no longer improve: loss not finite, or all embeddings equal."""
