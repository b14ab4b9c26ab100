from typing import ClassVar

from ranvier.data.origin import File
from ranvier.data.parsing import read_text
from ranvier.data.sets.dataset import Dataset
from ranvier.data.text import Text


class TinyShakespeare(Dataset[Text]):
    """Plays of Shakespeare, 1,115,394 characters with an alphabet of 65, for models of characters.

    Splits: "train" (the first 90 %, 1,003,854 characters), "valid" (the next 5 %, 55,770) and "test" (the last 5 %,
    55,770). Many papers hold out the last 10 % as one: that is "valid" followed by "test".
    Output: a `Text` whose symbols, in order of their code points, are those of the whole file in every split.

    Source: A. Karpathy 2015, char-rnn.

    >>> TinyShakespeare.splits
    ('train', 'valid', 'test')
    """

    licence: ClassVar[str] = "public domain: it may be redistributed"
    citation: ClassVar[str] = (
        "A. Karpathy. The unreasonable effectiveness of recurrent neural networks, 2015. "
        "https://github.com/karpathy/char-rnn, commit 6f9487a6fe."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "text/tinyshakespeare.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            urls=(
                "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
            ),
            bytes=1115394,
        ),
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "valid", "test")

    def read(self, split: str) -> Text:
        """The characters of a split."""
        text = read_text(self.files[0].find())
        borders = [0, len(text) * 90 // 100, len(text) * 95 // 100, len(text)]
        number = self.splits.index(split)
        return Text(text[borders[number] : borders[number + 1]], symbols="".join(sorted(set(text))))

    def smoke(self, split: str) -> Text:
        """The first thousand characters."""
        whole = self.load(split)
        return Text(whole.text[:1000], whole.symbols)
