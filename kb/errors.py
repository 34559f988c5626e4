"""The one kind of error that is shown without a traceback."""


class InputError(ValueError):
    """Something that a person can mend: one sentence with what, where, and the next command."""
