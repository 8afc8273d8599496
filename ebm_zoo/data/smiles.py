"""Molecules, written as SMILES."""

import csv
import io
import re
from pathlib import Path

from ebm_zoo.data.sequences import Lines, SequenceData, read_text
from ebm_zoo.data.text import read_lines
from ebm_zoo.errors import DataError

# An atom in brackets, an element of two letters, a ring number of two digits, or one character.
TOKEN = re.compile(r"\[[^\[\]]+\]|Br|Cl|%\d\d|.", re.DOTALL)

# Methane, water, ammonia, ethanol, propane, ethene, ethyne, formaldehyde, hydrogen cyanide, methanol, acetone,
# acetic acid, benzene, toluene, phenol, aniline, pyridine, cyclopropane, cyclohexane, chloroform, bromomethane, urea,
# dimethyl ether, acetonitrile, nitrobenzene, glycine, aspirin, caffeine, pyrrole, furan, lactic acid, styrene.
MOLECULES = (
    "C O N CCO CCC C=C C#C C=O C#N CO CC(C)=O CC(=O)O c1ccccc1 Cc1ccccc1 Oc1ccccc1 Nc1ccccc1 c1ccncc1 C1CC1 C1CCCCC1 "
    "ClC(Cl)Cl CBr NC(N)=O COC CC#N O=[N+]([O-])c1ccccc1 NCC(=O)O CC(=O)Oc1ccccc1C(=O)O Cn1cnc2c1c(=O)n(C)c(=O)n2C "
    "c1cc[nH]c1 c1ccoc1 CC(O)C(=O)O C=Cc1ccccc1"
)


class SmilesData(SequenceData):
    """Molecules of a file as rows of chemical tokens, **(B, L)** of int64.

    Arguments as for `SequenceData`. A file ``.csv`` has a header with a column ``smiles`` (in any case); of any other
    the first word of each line is read, so that a name may follow. Tokens are atoms (``C``, ``Cl``, ``[nH]``), bonds,
    branches and ring numbers, see `smiles_tokens`.
    """

    def examples(self) -> Lines:
        """Thirty-two molecules that everybody knows."""
        return list(enumerate(MOLECULES.split(), 1))

    def read(self, path: Path) -> Lines:
        """SMILES of a file."""
        return read_smiles(path)

    def tokens(self, sentence: str) -> list[str]:
        """Chemical tokens of a molecule."""
        return smiles_tokens(sentence)


def read_smiles(path: Path) -> Lines:
    """Molecules of a file: of a .csv the column ``smiles``, of any other the first word of each line."""
    if path.suffix.lower() == ".csv":
        return _column(path)
    return [(number, line.split()[0]) for number, line in read_lines(path)]


def smiles_tokens(smiles: str) -> list[str]:
    """Chemical tokens of a molecule: atoms, bonds, branches, ring numbers; what is none stands alone."""
    return TOKEN.findall(smiles)


def _column(path: Path) -> Lines:
    reader = csv.reader(io.StringIO(read_text(path)))
    header = [name.strip().lower() for name in next(reader, [])]
    if "smiles" not in header:
        raise DataError(f"{path} has no column 'smiles' in its first line: rename the one with the molecules.")
    place = header.index("smiles")
    return [(reader.line_num, row[place].strip()) for row in reader if len(row) > place and row[place].strip()]
