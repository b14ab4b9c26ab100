from typing import ClassVar

from ranvier.data.graph import Graph
from ranvier.data.origin import File
from ranvier.data.planetoid import planetoid
from ranvier.data.sets.dataset import Dataset


class Citeseer(Dataset[Graph]):
    """Papers on computer science that cite each other: 3,327 in six fields, by 4,552 citations and 3,703 words.

    Splits: "all", since a graph is one thing: `masks` say which nodes are for "train" (120, 20 of each class), "valid"
    (500) and "test" (1,000), Planetoid's public split; the other nodes have their labels but belong to none.
    Output: a `Graph` with edges [4,552, 2] of weight 1, x [3,327, 3,703] with 1 where a paper contains a word, and y
    [3,327]. Fifteen papers of the test range have neither words, nor a label (-1), nor a place in a mask. The file numbers the fields; their names are found by how many papers each has.

    Source: P. Sen et al. 2008; split of Z. Yang, W. Cohen and R. Salakhutdinov 2016.

    >>> Citeseer.splits, len(Citeseer.classes)
    (('all',), 6)
    """

    licence: ClassVar[str] = "MIT (kimiyoung/planetoid): it may be redistributed with the notice"
    citation: ClassVar[str] = (
        "P. Sen, G. Namata, M. Bilgic, L. Getoor, B. Gallagher, T. Eliassi-Rad. Collective classification in network "
        "data. AI Magazine 29(3), 2008. Z. Yang, W. Cohen, R. Salakhutdinov. Revisiting semi-supervised learning with "
        "graph embeddings. ICML 2016."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "graphs/citeseer/citeseer.npz",
            "817deb2d8ca07825050ed7bbb93c074ddadc4eaee952d9e926f231273e830ec7",
            bytes=204069,
            note="Made from the pickles ind.citeseer.* of https://github.com/kimiyoung/planetoid, commit af6abf468a.",
        ),
    )
    splits: ClassVar[tuple[str, ...]] = ("all",)
    classes: ClassVar[tuple[str, ...]] = (
        "artificial intelligence",
        "machine learning",
        "information retrieval",
        "databases",
        "agents",
        "human-computer interaction",
    )

    def read(self, split: str) -> Graph:
        """The whole graph."""
        return planetoid(self.files[0].find(), self.classes)

    def smoke(self, split: str) -> Graph:
        """The nodes that the first hundred edges join."""
        return self.load(split).around(100)
