"""Lines of text."""

from pathlib import Path

from ebm_zoo.data.sequences import Lines, SequenceData, read_text

EXAMPLE = """\
an energy is low where data are
noise climbs every hill
a slope leads down to what was seen
samples walk with small steps
no step is without noise
the prior is a hill of its own
a short run is a long way
each vector tells one line
what was read is read again
small worlds need few letters
a chain begins in noise
a chain forgets where it began
the end of a line is a token
"""


class TextData(SequenceData):
    """Lines of a text file as rows of characters, **(B, L)** of int64; blank lines are left out.

    Arguments as for `SequenceData`. A vocabulary of single characters makes a model of characters; one that has
    longer tokens besides (``"the "``) takes the longest that fits. Line ends are no characters of a sentence.
    """

    def examples(self) -> Lines:
        """Thirteen lines about chains and noise."""
        return list(enumerate(EXAMPLE.splitlines(), 1))

    def read(self, path: Path) -> Lines:
        """Lines of a file that are not blank."""
        return read_lines(path)


def read_lines(path: Path) -> Lines:
    """Lines of a file that are not blank, without their ends."""
    # Only \\n ends a line: splitlines() would also break at characters that stand inside one, such as \\x0c.
    lines = read_text(path).split("\n")
    return [(number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip()]
