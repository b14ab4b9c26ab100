"""Exported programs on an emulated Arm Cortex-M: whether their test passes, and flash, RAM and instructions of a step.

Needs gcc-arm-none-eabi with newlib, and qemu-system-arm. An emulator counts instructions; it knows no cycles.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ranvier.core.checks import Refusal

COMPILER, SIZE, EMULATOR = "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm"
WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
_BOARDS = {
    "cortex-m0": ("mps2-an385", ("-mcpu=cortex-m0",)),
    "cortex-m3": ("mps2-an385", ("-mcpu=cortex-m3",)),
    "cortex-m4": ("mps2-an386", ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")),
    "cortex-m7": ("mps2-an500", ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16")),
}
"""The emulated board and what the code is compiled for: M0 code runs on an M3, whose instructions include its own."""
# time passes by 64 ns an instruction: 25 MHz of SysTick tell each apart
_SHIFT, _TICKS = 6, "8 / 5"

_START = """
#include <stdint.h>
extern uint32_t stack_top;
void _start(void);
uint32_t ranvier_clock(void);
#define SYSTICK ((volatile uint32_t *)0xE000E010)
static uint32_t last, passed;
uint32_t ranvier_clock(void)   /* instructions; SysTick counts 24 bits down */
{
    const uint32_t now = SYSTICK[2];
    passed += (last - now) & 0xFFFFFFu;
    last = now;
    return (uint32_t)((uint64_t)passed * 5 / 8);
}
void begin(void);
void begin(void)
{
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;   /* the floating-point unit, where there is one */
    SYSTICK[1] = 0xFFFFFFu;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5;
    _start();
}
static void stop(void) { for (;;) { } }
__attribute__((section(".vectors"), used)) static const void *vectors[16] = {
    &stack_top, (void *)begin, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop
};
"""
_LINK = """
ENTRY(begin)
MEMORY { code (rx) : ORIGIN = 0x0, LENGTH = 4M  data (rwx) : ORIGIN = 0x20000000, LENGTH = 4M }
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) KEEP(*(.init)) KEEP(*(.fini)) KEEP(*(.init_array*)) KEEP(*(.fini_array*)) } > code
  .ARM.exidx : { *(.ARM.exidx*) } > code
  .data : { *(.data*) } > data
  .bss (NOLOAD) : { __bss_start__ = .; *(.bss*) *(COMMON) . = ALIGN(4); __bss_end__ = .; end = .; __end__ = .; } > data
  stack_top = ORIGIN(data) + LENGTH(data);
  __stack = stack_top;
}
"""


@dataclass(frozen=True)
class Measured:
    """What an emulated microcontroller says of a program: bytes, and instructions of a step on average and at most."""

    cpu: str
    passed: bool
    flash: int
    ram: int
    instructions: int
    most: int
    printed: str

    def __str__(self) -> str:
        return (
            f"{self.cpu}: flash {self.flash} bytes, RAM {self.ram} bytes, {self.instructions} instructions a step"
            f" ({self.most} at most), test {'passed' if self.passed else 'FAILED'}"
        )


def absent() -> list[str]:
    """The programs needed that are not on this machine."""
    return [name for name in (COMPILER, SIZE, EMULATOR) if shutil.which(name) is None]


def measured(path: str | Path, cpu: str = "cortex-m4", seconds: float = 100.0) -> Measured:
    """Compile an exported file for a Cortex-M, run its test in an emulator, and measure it.

    Flash and RAM are those of the functions and arrays of the file with all that they need, without a start-up or its stack.

    Raises: Refusal for a processor that is not known, programs that are not installed, and a file without a test.
    """
    if cpu not in _BOARDS:
        raise Refusal("cpu", expected=" or ".join(_BOARDS), got=repr(cpu), do="Choose one of them.")
    if missing := absent():
        do = "On Debian: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
        raise Refusal("An emulated Cortex-M", expected="a compiler and an emulator", got=f"no {missing[0]}", do=do)
    path = Path(path)
    name, (board, machine) = path.stem, _BOARDS[cpu]
    if f"{name.upper()}_TEST" not in path.read_text(encoding="utf-8"):
        raise Refusal(str(path), expected="a file with a test", got="none in it", do="Export it with test=x.")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        flags = [COMPILER, *machine, "-mthumb", "-O2", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"]
        alone = [f"-Wl,-u,{n}" for n in re.findall(rf"^(?:int|void) ({name}_\w+)\(", path.read_text(), re.MULTILINE)]
        bare = [*flags, *WARNINGS, *alone, "-nostartfiles", "--specs=nosys.specs", f"-Wl,-e,{name}_step", str(path)]
        _do([*bare, "-o", str(place / "bare"), "-lm"])
        code, data, bss = map(int, _do([SIZE, str(place / "bare")]).splitlines()[1].split()[:3])
        (place / "start.c").write_text(_START)
        (place / "board.ld").write_text(_LINK)
        upper = name.upper()
        test = [f"-D{upper}_TEST", f"-D{upper}_CLOCK=ranvier_clock", "-include", str(place / "clock.h")]
        (place / "clock.h").write_text("#include <stdint.h>\nuint32_t ranvier_clock(void);\n")
        link = ["--specs=rdimon.specs", "-T", str(place / "board.ld"), "-Wl,--no-warn-rwx-segments"]
        _do([*flags, *WARNINGS, *test, "-c", str(path), "-o", str(place / "program.o")])
        _do([*flags, "-c", str(place / "start.c"), "-o", str(place / "start.o")])
        objects = [str(place / "program.o"), str(place / "start.o")]
        _do([*flags, *link, *objects, "-o", str(place / "test"), "-lm"])
        run = [EMULATOR, "-machine", board, "-nographic", "-semihosting", "-icount", f"shift={_SHIFT}"]
        done = subprocess.run(
            [*run, "-kernel", str(place / "test")], capture_output=True, text=True, timeout=seconds, check=False
        )
    printed = done.stdout + done.stderr
    counts = re.search(r"instructions per step: (\d+) mean, (\d+) most", printed)
    mean, most = (int(counts[1]), int(counts[2])) if counts else (0, 0)
    return Measured(cpu, done.returncode == 0 and counts is not None, code + data, data + bss, mean, most, printed)


def _do(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(
            words[0], expected="a program that compiles", got=done.stderr[:2000], do="Say so: this is a fault."
        )
    return done.stdout
