"""The level of x86-64 that the library is built for: what there is, what this CPU has, what was asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from replay import need_library

from tinygrad_rnn.compiler.native import build, cpu
from tinygrad_rnn.errors import ConfigError

HERE = Path(__file__).parent

# Flags as Linux prints them; each set has those before it.
OLDEST = "fpu cx8 cmov mmx fxsr sse sse2 syscall nx lm"
AVX2 = f"{OLDEST} pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm xsave avx avx2 bmi1 bmi2 f16c fma abm movbe"
AVX512 = f"{AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Make this machine one of another architecture, whose first CPU has some flags."""

    def become(architecture, flags):
        described = "".join(f"processor : {n}\nflags : {flags}\ncpu MHz : {n}\n\n" for n in range(2))
        (tmp_path / "cpuinfo").write_text(described)
        monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(cpu.os, "uname", lambda: os.uname_result(("", "", "", "", architecture)))

    return become


def test_the_processor_is_described_by_what_does_not_change():
    first = cpu.processor()
    assert first
    assert first == cpu.processor()
    assert "MHz" not in first


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("x86_64", OLDEST, ["x86-64"]),
        ("x86_64", AVX2.replace(" fma", ""), ["x86-64"]),
        ("x86_64", AVX2, ["x86-64", "x86-64-v3"]),
        ("x86_64", AVX512.replace(" avx512vl", ""), ["x86-64", "x86-64-v3"]),
        ("x86_64", AVX512, ["x86-64", "x86-64-v3", "x86-64-v4"]),
        ("aarch64", AVX512, []),
    ],
)
def test_levels_of_a_cpu(machine, architecture, flags, expected):
    machine(architecture, flags)
    assert cpu.levels() == expected


@pytest.mark.parametrize(
    ("flags", "named", "expected"),
    [
        (AVX512, None, "native"),
        (AVX512, "", "native"),
        (OLDEST, "native", "native"),
        (AVX512, "x86-64-v3", "x86-64-v3"),
    ],
)
def test_what_is_asked_for(machine, monkeypatch, flags, named, expected):
    machine("x86_64", flags)
    monkeypatch.delenv("TINYGRAD_RNN_CPU", raising=False)
    if named is not None:
        monkeypatch.setenv("TINYGRAD_RNN_CPU", named)
    assert cpu.target() == expected


@pytest.mark.parametrize(
    ("architecture", "named", "message"),
    [
        ("x86_64", "avx2", 'must be "native", "x86-64", "x86-64-v3", "x86-64-v4", got \'avx2\''),
        ("x86_64", "x86-64-v4", "TINYGRAD_RNN_CPU=x86-64-v4, but this CPU has x86-64, x86-64-v3; name one"),
        ("aarch64", "x86-64", "TINYGRAD_RNN_CPU=x86-64, but this CPU has no level of x86-64; name one"),
    ],
)
def test_a_level_that_is_not_there(machine, monkeypatch, architecture, named, message):
    machine(architecture, AVX2)
    monkeypatch.setenv("TINYGRAD_RNN_CPU", named)
    for ask in (cpu.target, build._outcome.__wrapped__):  # with executor="auto" too: it was asked for by name
        with pytest.raises(ConfigError) as caught:
            ask()
        assert message in str(caught.value)


@pytest.mark.parametrize("level", [*cpu.levels(), "native"])
def test_a_library_for_each_level(level, tmp_path):
    need_library()
    (tmp_path / "replay.c").write_text("int add(int a, int b) { return a + b; }\n")
    library = build.load(build.build(tmp_path, tmp_path / "cache", build.find_compiler(), level))
    assert library.functions.add(2, 3) == 5
    assert [flag for flag in library.flags if flag.startswith("-march=")] == [f"-march={level}"]
    again = build.build(tmp_path, tmp_path / "cache", build.find_compiler(), level)
    assert again == library.path
    others = {build._key(tmp_path, ("cc",), one) for one in ("native", "x86-64", "x86-64-v3")}
    assert len(others) == 3


@pytest.mark.nightly
def test_shorter_vectors(tmp_path):
    """The library as a CPU without AVX-512 gets it: other tiles, and less memory for panels and lines."""
    need_library()
    if "x86-64-v4" not in cpu.levels():
        pytest.skip("the CPU has no longer vectors: the other tests have shown this")
    files = [str(HERE / f"test_native_{name}.py") for name in ("products", "elementwise", "chains")]
    # The root is where the options of pytest stand, and what it imports lies.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files],
        cwd=HERE.parents[1],
        env=os.environ | {"TINYGRAD_RNN_CPU": "x86-64-v3", "TINYGRAD_RNN_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
