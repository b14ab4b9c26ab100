import csv
import io
from typing import ClassVar

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.connectome import Connectome
from ranvier.data.origin import File
from ranvier.data.parsing import read_text, reading
from ranvier.data.sets.dataset import Dataset

_COLUMNS = {"cook2019": ("Source", "Target", "Weight"), "white1986": ("pre", "post", "synapses")}
_NOTE = "Made from the data of the Python package cect 0.3.5, as comma-separated text."


class CElegans(Dataset[Connectome]):
    """The nervous system of the worm C. elegans, a hermaphrodite, as mapped twice.

    Splits: "cook2019" (448 cells, 4,681 chemical and 2,698 electrical connections; muscles and other cells that
    neurons reach are among the cells) and "white1986" (309 cells, 2,386 and 575; all muscles of the body wall are one).
    The two are maps of the same thing, not a training and a test set.
    Output: a `Connectome` with the cells in order of their names; `electrical` tells gap junctions from chemical
    synapses: `a.take(~a.electrical).matrix()`. Cook et al. state a gap junction in both directions, but for 6, at
    times with different weights; White et al. once. Cook et al. weigh by size (sections seen), White et al. count.

    Source: S. Cook et al. 2019; J. White, E. Southgate, J. Thomson and S. Brenner 1986.

    >>> CElegans.splits
    ('cook2019', 'white1986')
    """

    licence: ClassVar[str] = "MIT (package cect): it may be redistributed with the notice; cite the papers"
    citation: ClassVar[str] = (
        "S. Cook, T. Jarrell, C. Brittin et al. Whole-animal connectomes of both Caenorhabditis elegans sexes. Nature "
        "571, 2019. doi:10.1038/s41586-019-1352-7. J. White, E. Southgate, J. Thomson, S. Brenner. The structure of the "
        "nervous system of the nematode Caenorhabditis elegans. Philosophical Transactions of the Royal Society B 314, "
        "1986. doi:10.1098/rstb.1986.0056"
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "connectome_c_elegans/cook2019_hermaphrodite_edgelist.csv",
            "7c04426e0a8797abf9171177154ae432d27f40cf9cc66a7ab32c97a47326a21b",
            bytes=165530,
            note=_NOTE,
        ),
        File(
            "connectome_c_elegans/white1986_whole_edgelist.csv",
            "5494fe3c711a94195044179dc7b1e2540a88de01cbff3f91485a757b155ca878",
            bytes=64493,
            note=_NOTE,
        ),
    )
    splits: ClassVar[tuple[str, ...]] = ("cook2019", "white1986")

    def read(self, split: str) -> Connectome:
        """The map of a split."""
        path = self.files[self.splits.index(split)].find()
        source, target, weight = _COLUMNS[split]
        table = csv.DictReader(io.StringIO(read_text(path)))
        with reading(path):
            rows = [
                (row[source], row[target], int(row[weight]), row["Type" if split == "cook2019" else "type"])
                for row in table
            ]
            pre, post, synapses, kinds = zip(*rows, strict=True)
        if unknown := set(kinds) - {"chemical", "electrical"}:
            raise Refusal(
                path.name,
                expected="chemical or electrical connections",
                got=repr(min(unknown)),
                do="Copy it anew from where it comes from.",
            )
        cells = sorted({*pre, *post})
        number = {cell: i for i, cell in enumerate(cells)}
        return Connectome(
            pre=np.array([number[cell] for cell in pre], dtype=np.int64),
            post=np.array([number[cell] for cell in post], dtype=np.int64),
            synapses=np.array(synapses, dtype=np.int64),
            neurons=tuple(cells),
            electrical=np.array([kind == "electrical" for kind in kinds], dtype=bool),
        )

    def smoke(self, split: str) -> Connectome:
        """The first fifty cells."""
        return self.load(split).part(range(50))
