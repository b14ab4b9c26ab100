import io
import tarfile
from typing import ClassVar

import numpy as np
import torch

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data.cache import Tensors, cached
from ranvier.data.lazy import Mapped, unit
from ranvier.data.origin import File
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled

_MEMBERS = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
_JPEG = "A copy compressed as JPEG that nobody publishes; the official archive has the true images."


class CIFAR10(Labelled):
    """Small colour photographs of ten kinds of things: 60,000 images of 32x32 pixels.

    Splits: "train" (50,000 images) and "test" (10,000), the official ones, and "train-jpeg", "test-jpeg": the same images
    from a copy that was compressed as JPEG (quality 75, 30.5 dB) and sorted by class. **Accuracies on the JPEG splits
    compare only among themselves**: a published network with 91.8 % on the true test images reaches 80.4 % on these.
    `group` is the image's number in the files of its own kind, the test's after those of the training; an image has
    another number in the JPEG splits.
    Output: x[i] is [1, 3, 32, 32], a static image as a sequence of one step ([T, C, H, W]), red, green and blue from 0
    to 1. Images stay bytes until they are asked for.

    The official archive in its binary version is read as it is, without being unpacked, and without pickles. Either
    kind is converted once and kept in the cache (184 MB); the JPEG splits need Pillow for that.

    Source: A. Krizhevsky 2009.

    >>> CIFAR10.splits, CIFAR10.classes[:3]
    (('train', 'test', 'train-jpeg', 'test-jpeg'), ('airplane', 'automobile', 'bird'))
    """

    licence: ClassVar[str] = "not stated by the source: for research and tests, not to be redistributed"
    citation: ClassVar[str] = (
        "A. Krizhevsky. Learning multiple layers of features from tiny images. Technical report, University of Toronto, "
        "2009."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "cifar10/cifar-10-binary.tar.gz",
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            bytes=170_052_171,
        ),
        File(
            "cifar10/cifar10_train_jpeg.npz",
            "b4d236f692043f36836176f156f576eb7359601b1a3cea5de1c49b9883caab5c",
            bytes=15_319_290,
            note=_JPEG,
        ),
        File(
            "cifar10/cifar10_test_jpeg.npz",
            "6631b84f52025d686856511d479433868692ecce9952bdc4c85e6810c3a733db",
            bytes=3_066_349,
            note=_JPEG,
        ),
    )
    whole_numbers: ClassVar[bool] = True
    classes: ClassVar[tuple[str, ...]] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "train-jpeg", "test-jpeg")

    def read(self, split: str) -> Samples:
        """The images of a split, in the order of the file."""
        part, _, jpeg = split.partition("-")
        file = self.files[(1 if part == "train" else 2) if jpeg else 0]
        convert = _decoded if jpeg else _unpacked
        # the name holds the origin's checksum: another origin, or another conversion, must take another name
        tensors = cached(f"cifar10-{file.checksum[:12]}-{part}", lambda: convert(file, part))
        y = tensors["labels"].numpy().astype(np.int64)
        return Samples(
            x=Mapped(tensors["images"].numpy(), unit),
            y=y,
            classes=self.classes,
            group=(0 if part == "train" else 50_000) + np.arange(len(y)),
        )


def _unpacked(file: File, part: str) -> Tensors:
    """Records of a label and three planes of 1,024 bytes, read in one pass through the archive."""
    names = [f"cifar-10-batches-bin/{name}" for name in _MEMBERS[part]]
    found = {}
    with tarfile.open(file.find(), "r|gz") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.name in names else None
            if content is not None:
                found[member.name] = np.frombuffer(content.read(), dtype=np.uint8).reshape(-1, 3073)
    if len(found) < len(names):
        raise Refusal(file.path, expected=f"{', '.join(names)} in it", got=f"{sorted(found)}", do="Get it again.")
    records = np.concatenate([found[name] for name in names])
    images = np.ascontiguousarray(records[:, 1:]).reshape(-1, 1, 3, 32, 32)
    return {"images": torch.from_numpy(images), "labels": torch.from_numpy(records[:, 0].copy())}


def _decoded(file: File, part: str) -> Tensors:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackage("pillow", "pillow>=11") from None

    with np.load(file.find(), allow_pickle=False) as arrays:
        jpegs, labels = np.split(arrays["jpeg_bytes"], arrays["offsets"][1:-1]), arrays["labels"]
    images = np.empty((len(jpegs), 32, 32, 3), dtype=np.uint8)
    for image, jpeg in zip(images, jpegs, strict=True):
        image[:] = np.asarray(Image.open(io.BytesIO(jpeg.tobytes())).convert("RGB"))
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))[:, None]
    return {"images": torch.from_numpy(planes), "labels": torch.from_numpy(labels)}
