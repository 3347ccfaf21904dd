"""Define the one error that users meet, and shorten those of libraries for it."""


class InputError(Exception):
    """Something given to acdc is wrong. The message is one sentence: what is wrong, where, and the remedy."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's message."""
    return str(error).strip().split("\n")[0]
