"""Kernels built once: machine code kept on disk under the hash of what it was made from."""

import ctypes
import hashlib
import importlib.util
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

Kernel = Any
"""A C function of (args, low, high); calling it releases Python's lock."""


def folder() -> Path | None:
    """Where built kernels are kept: RANVIER_CACHE or ~/.cache/ranvier; None, said once, when it can't be made."""
    path = Path(os.environ.get("RANVIER_CACHE") or "~/.cache/ranvier").expanduser() / "kernels"
    return _made(path)


@cache
def _made(path: Path) -> Path | None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(
            f"{path}: kernels are built anew in every process, since this folder can't be made ({error.strerror}). Set RANVIER_CACHE.",
            stacklevel=3,
        )
        return None
    return path


def build_llvm(source: str) -> Kernel:
    """The function `kernel` of an LLVM module, from disk where it has been built before."""
    import llvmlite
    import llvmlite.binding as llvm

    machine = _machine()
    key = hashlib.sha256(
        "\n".join((source, llvm.get_host_cpu_name(), _features(), llvmlite.__version__)).encode()
    ).hexdigest()
    place = folder()
    kept = place / f"{key}.o" if place else None
    code = kept.read_bytes() if kept and kept.is_file() else None
    empty = llvm.parse_assembly("")
    engine = llvm.create_mcjit_compiler(empty, machine)
    if code is None:
        module = llvm.parse_assembly(source)
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        llvm.create_pass_builder(machine, options).getModulePassManager().run(
            module, llvm.create_pass_builder(machine, options)
        )
        code = machine.emit_object(module)
        if kept:
            write(kept, code)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        engine.get_function_address("kernel")
    )
    function.engine = engine  # type: ignore[attr-defined]  # the code lives as long as the function
    return function


def build_triton(source: str) -> Any:
    """The function `kernel` of a Triton module. Triton needs it in a file, and keeps the machine code in its own cache."""
    key = hashlib.sha256(source.encode()).hexdigest()
    place = folder() or Path(_scratch())
    path = place / f"triton_{key}.py"
    if not path.is_file():
        write(path, source.encode())
    spec = importlib.util.spec_from_file_location(f"ranvier_triton_{key}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.kernel


@cache
def _scratch() -> str:
    return tempfile.mkdtemp(prefix="ranvier-kernels-")


def write(path: Path, content: bytes) -> None:
    """Put a built kernel in its place in one move: several processes may build the same one at once."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        warnings.warn(f"{path}: a built kernel can't be kept ({error.strerror}).", stacklevel=2)
        part.unlink(missing_ok=True)


@cache
def _machine() -> Any:
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
