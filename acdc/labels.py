"""Label words of prompts, such as the indirect object, by the positions of their characters; torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

Span = tuple[int, int]
"""The position of a word in a text: its first character and the one after its last. In a list of token ids, tokens."""
Labels = Mapping[str, tuple[Span | None, Span | None]]
"""By label, the span of the word in the clean and in the corrupted prompt; None where a prompt has no such word."""


def filled(template: str, fields: Mapping[str, str]) -> tuple[str, dict[str, Span]]:
    """Fill the fields of a template, and return the text with the span of each field's first occurrence."""
    text, spans = "", dict[str, Span]()
    for before, name, _, _ in Formatter().parse(template):
        text += before
        if name is not None:
            spans.setdefault(name, (len(text), len(text) + len(fields[name])))
            text += fields[name]
    return text, spans


def labelled(fields: Mapping[str, str], clean: Mapping[str, Span], corrupted: Mapping[str, Span]) -> Labels:
    """Return the labels of words that fill the fields of two templates.

    Args:
        fields: the field of each label.
        clean, corrupted: the span of each field's word in the two prompts, see ``filled``.
    """
    return {label: (clean.get(field), corrupted.get(field)) for label, field in fields.items()}
