"""Define the one error that users meet."""


class InputError(Exception):
    """Something given to acdc is wrong. The message is one sentence: what is wrong, where, and the remedy."""
