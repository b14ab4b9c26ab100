import gc
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import ranvier
from ranvier.compile import buffers

SHAPE = (1 << 18,)  # floats: a mebibyte, the smallest block that is kept
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No block of another test is there."""
    monkeypatch.setattr(buffers, "_kept", {})


def block():
    return buffers.empty(SHAPE, torch.float32)


def held():
    return sum(len(blocks) for blocks in buffers._kept.values())


def test_memory_is_used_again_once_its_tensor_is_gone():
    first = block()
    address = first.data_ptr()
    assert first.shape == SHAPE and first.is_contiguous() and first.dtype == torch.float32
    assert block().data_ptr() != address
    del first
    assert block().data_ptr() == address and held() == 2


def test_blocks_fit_in_bytes_whatever_the_shape_and_dtype():
    address = block().data_ptr()
    assert buffers.empty((2, 1 << 17), torch.float32).data_ptr() == address
    assert buffers.empty((1 << 17,), torch.float64).data_ptr() == address
    assert buffers.empty((1 << 19,), torch.bfloat16).data_ptr() == address
    assert buffers.empty((1 << 18, 2), torch.float32).data_ptr() != address


@pytest.mark.parametrize(
    "refer",
    [
        lambda t: t,
        lambda t: t[5:6],
        lambda t: t.view(torch.int32),
        lambda t: t.numpy(),
        lambda t: t.numpy()[::7],
        lambda t: memoryview(t.numpy()),
        lambda t: t.detach(),
        lambda t: t.untyped_storage(),
        lambda t: torch.utils.dlpack.to_dlpack(t),
        lambda t: torch.from_numpy(t.numpy()),
        lambda t: nn.Parameter(t),
        lambda t: (t.requires_grad_() * 2).square(),  # autograd has it
        lambda t: [t],
        lambda t: torch.empty(0).set_(t),
    ],
    ids=range(14),
)
def test_memory_is_not_used_again_while_anything_refers_to_it(refer):
    first = block()
    address = first.data_ptr()
    other = refer(first)
    del first
    gc.collect()
    assert block().data_ptr() != address
    del other
    gc.collect()
    assert block().data_ptr() == address


def test_what_autograd_saved_is_kept_until_backward_is_done():
    weight = torch.ones(SHAPE, requires_grad=True)
    x = block().fill_(3.0)
    address = x.data_ptr()
    y = weight * x
    del x
    others = [block().fill_(7.0) for _ in range(3)]
    assert address not in {o.data_ptr() for o in others}
    y.sum().backward()
    assert (weight.grad == 3.0).all()
    del y
    assert block().data_ptr() == address


def test_what_other_processes_may_read_or_was_resized_is_not_used_again():
    shared = block()
    shared.share_memory_()  # as on the way to another process, which may outlive this tensor
    address = shared.data_ptr()
    del shared
    assert block().data_ptr() != address
    grown = block()
    grown.untyped_storage().resize_(4)
    del grown
    again = block()
    assert again.untyped_storage().nbytes() == 1 << 20 and again.fill_(1.0).sum() == SHAPE[0]


def test_small_sizes_are_left_to_torch():
    small = buffers.empty((SHAPE[0] - 1,), torch.float32)
    assert small.shape == (SHAPE[0] - 1,) and not held()
    assert buffers.empty((0, 1 << 30), torch.float32).shape == (0, 1 << 30) and not held()


def test_what_nobody_wants_any_more_is_given_back(monkeypatch):
    monkeypatch.setattr(buffers, "_requests", 0)
    many = [block() for _ in range(5)]
    address = many[0].data_ptr()
    large = buffers.empty((1 << 19,), torch.float32)
    assert held() == 6
    del many, large
    for _ in range(2 * buffers._LATELY):
        assert block().data_ptr() == address  # one is enough now
    assert held() == 1


def test_a_block_in_use_outlives_its_being_given_back(monkeypatch):
    monkeypatch.setattr(buffers, "_requests", 0)
    long = block().fill_(5.0)
    for _ in range(2 * buffers._LATELY):
        block().fill_(0.0)
    assert (long == 5.0).all()


def test_no_two_threads_are_given_one_block():
    def work(i):
        for j in range(200):
            mine = block()
            mine.fill_(1000 * i + j)
            view = mine[::999]
            del mine
            if not (view == 1000 * i + j).all():
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert held() <= 8


def test_a_child_process_is_not_held_up_by_a_lock_of_its_parents_thread():
    taken, done = threading.Event(), threading.Event()

    def hold():
        with buffers._lock:
            taken.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(30)
    child = os.fork()
    if child == 0:
        block()
        os._exit(0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(INTERPRETED, reason="not what runs on a GPU")
def test_training_takes_no_more_memory_with_time():
    net = nn.Sequential(nn.Linear(8, 1024), ranvier.LIF(tau=nn.Parameter(torch.tensor(3.0))), nn.Linear(1024, 2))
    x = torch.randn(40, 8, 8)
    sizes = []
    for _ in range(12):
        net(x).sum().backward()
        sizes.append(held())
    assert sizes[-1] == sizes[1] > 0
    # a model of another size takes its own blocks, and copies of outputs stay what they were
    y = ranvier.LIF()(3 * torch.rand(40, 8, 1024))
    copy = y.clone()
    for _ in range(3):
        ranvier.LIF()(torch.zeros(40, 8, 1024))
    assert torch.equal(y, copy) and y.any()
    saved = io.BytesIO()
    torch.save(y, saved)
    assert saved.tell() > y.numel() * 4


def test_batches_of_ever_other_lengths_share_their_blocks():
    for steps in range(1000, 1400):
        buffers.empty((steps, 1024), torch.float32)
    assert len(buffers._kept) <= 6 and sum(len(blocks) for blocks in buffers._kept.values()) <= 6
    assert all(4096 * 1000 <= size <= 1.125 * 4096 * 1400 for size in buffers._kept)
