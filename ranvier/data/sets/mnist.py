from typing import ClassVar

from ranvier.data.idx_format import image_samples
from ranvier.data.origin import File, any_of
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled

_HOSTS = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")


def _official(name: str, size: int, checksum: str) -> File:
    return File(f"mnist/{name}", checksum, urls=tuple(f"{host}/{name}" for host in _HOSTS), bytes=size)


class MNIST(Labelled):
    """Handwritten digits: 70,000 images of 28x28 pixels.

    Splits: "train" (60,000 images) and "test" (10,000), the official ones, whose writers differ. `group` is the
    image's number, the test's after those of the training.
    Output: x[i] is [1, 1, 28, 28], a static image as a sequence of one step ([T, C, H, W]) with ink from 0 to 1, so that
    how often it is shown, and how it becomes spikes, is left to an encoder. Images stay bytes until they are asked for.

    The four official files, or in place of the training images a rebuild of theirs that was compressed anew.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner 1998.

    >>> MNIST.splits, len(MNIST.classes)
    (('train', 'test'), 10)
    """

    licence: ClassVar[str] = "CC BY-SA 3.0, as its hosts commonly state: may be redistributed with attribution"
    citation: ClassVar[str] = (
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-based learning applied to document recognition. Proceedings "
        "of the IEEE 86(11), 1998. doi:10.1109/5.726791"
    )
    files: ClassVar[tuple[File, ...]] = (
        _official(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _official(
            "train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        _official(
            "t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        _official(
            "t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
        File(
            "mnist/train-images-idx3-ubyte.gz",
            "b214e91d8244eb90df4cfc21641280a7547c4c0765ea32b1cb48ee8286a46896",
            bytes=9_912_422,
            note="The same images compressed anew; the official file serves as well.",
        ),
    )
    whole_numbers: ClassVar[bool] = True
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def read(self, split: str) -> Samples:
        """The images of a split, in the order of the file."""
        part, first = ("train", 0) if split == "train" else ("t10k", 60_000)
        images, labels = (
            any_of(self.files, f"mnist/{part}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")
        )
        return image_samples(images, labels, self.classes, first)
