"""Suggestions for words that are close to a known one."""

from collections.abc import Iterable
from difflib import get_close_matches

# difflib's own default: a transposition in a word of six letters still matches.
SIMILARITY = 0.6


def closest(
    word: str, known: Iterable[str], similarity: float = SIMILARITY
) -> str | None:
    """The known word that is most similar to another word.

    Args:
        word: The word as the user wrote it.
        known: Candidates.
        similarity: Least ratio of `difflib.SequenceMatcher`, 0 to 1.

    Returns:
        The best candidate, or None where no candidate is similar enough.
    """
    matches = get_close_matches(word, list(known), n=1, cutoff=similarity)
    return matches[0] if matches else None


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """A question for the end of an error message.

    Args:
        word: The word as the user wrote it.
        known: Words that are valid in its place.
        otherwise: Returned where no known word is similar, such as a full stop.
    """
    match = closest(word, known)
    return f"; did you mean `{match}`?" if match else otherwise
