"""Files of events that are cut off: what lies before is kept; and any bytes at all: events or a refusal."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ranvier.core.checks import MissingPackage, NonFinite, Refusal
from ranvier.data.event_files import read_events
from ranvier.data.events import events
from ranvier.data.intact import read_intact

FOLDER = Path(os.environ.get("RANVIER_DATA") or "/nowhere", "event_file_samples")
WHOLE = {
    ".bin": bytes([1, 2, 0x80, 0, 9, 0, 240, 0, 0, 0, 3, 4, 0x00, 0x1F, 0xFF]),
    ".dat": b"% Width 304\n% Height 240\n\x00\x08" + struct.pack("<4I", 5, 303 | 239 << 14 | 1 << 28, 9, 3),
    ".raw": b"% evt 2.0\n" + struct.pack("<3I", 8 << 28 | 2, 1 << 28 | 3 << 22 | 1 << 11 | 1, 7),
    ".aedat": b"#!AER-DAT2.0\r\n" + struct.pack(">4I", 3, 5, 300, 9),
}


@pytest.mark.parametrize("suffix", WHOLE)
def test_what_is_before_the_cut_is_kept(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(WHOLE[suffix])
    whole = read_intact(file)
    assert whole.why is None and len(whole.events) == 2
    file.write_bytes(WHOLE[suffix][:-1])
    cut = read_intact(file)
    assert np.array_equal(cut.events, whole.events[:1]) and f"a{suffix} at byte" in str(cut.why)
    assert cut.sensor == whole.sensor


def test_numpy(tmp_path: Path) -> None:
    e = events(t=range(100), x=range(100), y=[3] * 100, p=[1] * 100)
    np.save(tmp_path / "a.npy", e)
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:-25])
    cut = read_intact(tmp_path / "a.npy")
    assert np.array_equal(cut.events, e[:98]) and "a.npy" in str(cut.why)
    for content in (data[:40], b"", np.zeros(3).tobytes()):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(Refusal, match=r"a\.npy"):
            read_intact(tmp_path / "a.npy")


@pytest.mark.parametrize("compression", [0, 1])
def test_aedat4(tmp_path: Path, aedat4_file: Callable[..., bytes], compression: int) -> None:
    e = events(t=range(1000), x=range(1000), y=[3] * 1000, p=[1] * 1000)
    whole = aedat4_file(e, compression, (1000, 10))
    file = tmp_path / "a.aedat4"
    file.write_bytes(whole)
    count = len(read_intact(file).events)
    kept = []
    for cut in range(len(whole) - 1, 400, -97):
        file.write_bytes(whole[:cut])
        try:
            found = read_intact(file)
        except Refusal:
            continue
        kept.append(len(found.events))
        assert np.array_equal(found.events, read_events_of(e, count)[: kept[-1]]) and (kept[-1] == count or found.why)
    assert sorted(kept, reverse=True) == kept


def read_events_of(e: np.ndarray, count: int) -> np.ndarray:
    return e[:count]


@pytest.mark.parametrize(
    "name",
    ["tonic_sample.aedat4", "expelliarmus_evt3_sample.raw", "jaer_dvs128_short.aedat", "tonic_sample_nmnist.bin"],
)
def test_real_files_cut_in_two(tmp_path: Path, name: str) -> None:
    if not (FOLDER / name).is_file():
        pytest.skip(f"needs RANVIER_DATA with event_file_samples/{name} in it")
    data = (FOLDER / name).read_bytes()
    file = tmp_path / name
    file.write_bytes(data[: len(data) // 2 // 40 * 40 + 1])
    found, whole = read_intact(file), read_events(FOLDER / name)[0]
    assert found.why is not None and 0.2 * len(whole) < len(found.events) < 0.8 * len(whole)
    assert np.array_equal(found.events, whole[: len(found.events)])


BYTES = st.one_of(
    st.binary(max_size=80), st.lists(st.sampled_from([0, 1, 8, 0x80, 0xF0, 0xFF]), max_size=60).map(bytes)
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".npy", ".npz", ".bin", ".dat", ".raw", ".aedat", ".aedat4"]),
    begin=st.sampled_from(["", "whole", "half"]),
    content=BYTES,
    place=st.integers(0, 2000),
    flip=st.integers(0, 255),
)
@example(".aedat4", "whole", b"", 14, 255)
def test_any_bytes_give_events_or_a_refusal(
    tmp_path: Path,
    aedat4_file: Callable[..., bytes],
    suffix: str,
    begin: str,
    content: bytes,
    place: int,
    flip: int,
) -> None:
    data = bytearray(content)
    if begin:
        data = bytearray(_sample(tmp_path, suffix, aedat4_file))
        data = data[: len(data) // 2] if begin == "half" else data
        data[place % len(data)] ^= flip
        data[place % len(data) : place % len(data)] = content[:3]
    file = tmp_path / f"fuzz{suffix}"
    file.write_bytes(data)
    for read in (read_events, read_intact):
        try:
            found = read(file)[0]
        except (Refusal, NonFinite, MissingPackage):
            continue
        assert found.dtype.names[:2] == ("t", "x") and (found["t"] >= 0).all()


def _sample(folder: Path, suffix: str, aedat4_file: Callable[..., bytes]) -> bytes:
    e = events(t=[1, 2, 9], x=[3, 4, 5], y=[5, 6, 7], p=[0, 1, 1])
    if suffix == ".aedat4":
        return aedat4_file(e, 0, (10, 10))
    if suffix in WHOLE:
        return WHOLE[suffix]
    file = folder / f"sample{suffix}"
    (np.save if suffix == ".npy" else lambda f, a: np.savez(f, events=a))(file, e)
    return file.read_bytes()
