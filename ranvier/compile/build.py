"""Kernels built once: machine code kept on disk under the hash of what it was made from."""

import contextlib
import ctypes
import hashlib
import importlib.util
import os
import tempfile
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import Any

Kernel = Any
"""A C function of (args, low, high); calling it releases Python's lock."""


def folder() -> Path | None:
    """Where built kernels are kept: RANVIER_CACHE or ~/.cache/ranvier; None, said once, when it can't be made."""
    return _made(os.environ.get("RANVIER_CACHE") or "~/.cache/ranvier")


@cache
def _made(place: str) -> Path | None:
    try:
        path = Path(place).expanduser() / "kernels"
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        _say_once(place, getattr(error, "strerror", None) or str(error))
        return None
    return path


@cache
def _say_once(place: str, reason: str) -> None:
    warnings.warn(
        f"{place}: kernels can't be kept here ({reason}), so every process builds them anew. Set RANVIER_CACHE to a folder that can be written.",
        stacklevel=2,
    )


def build_llvm(source: str) -> Kernel:
    """The function `kernel` of an LLVM module, from disk where it has been built before."""
    import llvmlite
    import llvmlite.binding as llvm

    key = hashlib.sha256(
        "\n".join((source, llvm.get_host_cpu_name(), _features(), llvmlite.__version__)).encode()
    ).hexdigest()
    place = folder()
    kept = place / f"{key}.kernel" if place else None
    code = _read(kept) if kept else None
    machine = _machine()
    if code is None:
        module = llvm.parse_assembly(source)
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        llvm.create_pass_builder(machine, options).getModulePassManager().run(
            module, llvm.create_pass_builder(machine, options)
        )
        code = machine.emit_object(module)
        if kept:
            write(kept, hashlib.sha256(code).digest() + code)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        engine.get_function_address("kernel")
    )
    function.engine = engine  # type: ignore[attr-defined]  # the code lives as long as the function
    return function


def build_triton(source: str) -> Any:
    """The function `kernel` of a Triton module. Triton needs it in a file, and keeps the machine code in its own cache."""
    name, content = f"triton_{hashlib.sha256(source.encode()).hexdigest()}", source.encode()
    for place in (folder(), Path(_scratch())):
        if place and (_content(path := place / f"{name}.py") == content or write(path, content)):
            break
    spec = importlib.util.spec_from_file_location(f"ranvier_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.kernel


@cache
def _scratch() -> str:
    return tempfile.mkdtemp(prefix="ranvier-kernels-")


def write(path: Path, content: bytes) -> bool:
    """Put a built kernel in its place in one move: several processes and threads may build the same one at once."""
    part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        _say_once(str(path.parent), error.strerror or str(error))
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        return False
    return True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _read(path: Path) -> bytes | None:
    """A kept kernel; None when it isn't there or isn't what was written (a disk can fill up, a machine can stop)."""
    content = _content(path) or b""
    digest, code = content[:32], content[32:]
    return code if digest == hashlib.sha256(code).digest() else None


def _machine() -> Any:
    """A target machine; one for each kernel, since its engine takes it over and frees it."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, reloc="pic", codemodel="small", jit=True
    )


@cache
def _features() -> str:
    import llvmlite.binding as llvm

    features: str = llvm.get_host_cpu_features().flatten()
    return features
