from typing import ClassVar

from ranvier.data.origin import File
from ranvier.data.sets._citations import Citations


class Citeseer(Citations):
    """Papers on computer science that cite each other: 3,327 in six fields, by 4,552 citations and 3,703 words.

    Splits: "all", since a graph is one thing: `masks` say which nodes are for "train" (120, 20 of each class), "valid"
    (500) and "test" (1,000), Planetoid's public split; the other nodes have their labels but belong to none.
    Output: a `Graph` with edges [4,552, 2] of weight 1, x [3,327, 3,703] with 1 where a paper contains a word, and y
    [3,327]. Fifteen papers of the test range have neither words, nor a label (-1), nor a place in a mask. The file
    numbers the fields; their names are found by how many papers each has.

    Source: P. Sen et al. 2008; split of Z. Yang, W. Cohen and R. Salakhutdinov 2016.

    >>> Citeseer.splits, len(Citeseer.classes)
    (('all',), 6)
    """

    files: ClassVar[tuple[File, ...]] = (
        File(
            "graphs/citeseer/citeseer.npz",
            "817deb2d8ca07825050ed7bbb93c074ddadc4eaee952d9e926f231273e830ec7",
            bytes=204069,
            note="Made from the pickles ind.citeseer.* of https://github.com/kimiyoung/planetoid, commit af6abf468a.",
        ),
    )
    classes: ClassVar[tuple[str, ...]] = (
        "artificial intelligence",
        "machine learning",
        "information retrieval",
        "databases",
        "agents",
        "human-computer interaction",
    )
