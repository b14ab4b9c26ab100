from typing import ClassVar

from ranvier.data.origin import File
from ranvier.data.sets._citations import Citations


class Cora(Citations):
    """Papers on machine learning that cite each other: 2,708 in seven fields, by 5,278 citations and 1,433 words.

    Splits: "all", since a graph is one thing: `masks` say which nodes are for "train" (140, 20 of each class), "valid"
    (500) and "test" (1,000), Planetoid's public split; the other nodes have their labels but belong to none.
    Output: a `Graph` with edges [5,278, 2] of weight 1, x [2,708, 1,433] with 1 where a paper contains a word, and y
    [2,708]. The file numbers the fields; their names are found by how many papers each has.

    Source: P. Sen et al. 2008; split of Z. Yang, W. Cohen and R. Salakhutdinov 2016.

    >>> Cora.splits, len(Cora.classes)
    (('all',), 7)
    """

    files: ClassVar[tuple[File, ...]] = (
        File(
            "graphs/cora/cora.npz",
            "6a19a102e95e16edc9a876fc7868d16840614a8af59ba7b61d69fb343a15625a",
            bytes=102576,
            note="Made from the pickles ind.cora.* of https://github.com/kimiyoung/planetoid, commit af6abf468a.",
        ),
    )
    classes: ClassVar[tuple[str, ...]] = (
        "theory",
        "reinforcement learning",
        "genetic algorithms",
        "neural networks",
        "probabilistic methods",
        "case based",
        "rule learning",
    )
