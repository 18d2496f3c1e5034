"""Files that are foreign, cut, changed or made to harm: one line, or the exact picture."""

import json
import os
import random
import subprocess
import sys
import zlib

import pytest
from relatent.systems.codec.bitstream.container import Container, read_container
from relatent.systems.codec.errors import BitstreamError
from synthetic_pictures import picture_of

# Decodes a file, forged ones and a thousand changed ones as the command does; prints what came of them, the most memory in
# bytes that each kind took, and the longest seconds.
MUTATE = """
import json
import random
import resource
import sys
import time
import zlib
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from relatent.systems.codec.bitstream.container import Container
from relatent.systems.codec.bitstream.model_folder import load_model
from relatent.systems.codec.errors import BitstreamError
from relatent.systems.codec.picture_files import decompress_file
torch.set_num_threads(1)
codec = load_model(sys.argv[1])
data = Path(sys.argv[2]).read_bytes()
mended = sys.argv[3] == "mended"
source, destination = Path(sys.argv[2]).with_name("changed.rlc"), Path(sys.argv[2]).with_name("changed.png")

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])

def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")

def decode(content, max_pixels=256 * 256):
    source.write_bytes(content)
    begin = time.perf_counter()
    try:
        decompress_file(source, destination, codec, max_pixels, replace=True)
        return None, time.perf_counter() - begin
    except BitstreamError as error:
        return str(error), time.perf_counter() - begin

result = {}
decode(codec.compress(torch.zeros(3, 64, 64, dtype=torch.uint8)))  # loads what is loaded once
start = forget_peak()
huge = Container(codec.sha256[:8], 1 << 13, 1 << 13, (b"", b"", b"", b"")).to_bytes()
result["huge"] = [*decode(huge, 1 << 25), memory("VmHWM") - start]
start = forget_peak()
noise = random.Random(0).randbytes(200_000) + b"1"
huge = Container(codec.sha256[:8], 1 << 13, 1 << 13, (noise, b"", b"", b"")).to_bytes()
result["z"] = [*decode(huge, 1 << 26), memory("VmHWM") - start]
start = forget_peak()
row = Container(codec.sha256[:8], 1, 256 * 256, (b"", b"", b"", b"")).to_bytes()
result["row"] = [*decode(row), memory("VmHWM") - start]
start = forget_peak()
refusal, usual = decode(data)
assert refusal is None
need = memory("VmHWM") - start
picture = np.asarray(Image.open(destination))
resource.setrlimit(resource.RLIMIT_CPU, (240, 240))
forget_peak()
generator = random.Random(1)
counts, longest = {"refused": 0, "exact": 0, "other": 0}, 0.0
for _ in range(1000):
    changed = bytearray(data)
    kind = generator.randrange(4)
    if kind == 0:
        del changed[generator.randrange(len(data)):]
    elif kind == 1:
        at = generator.randrange(len(data))
        changed[at:at] = generator.randbytes(generator.randrange(1, 9))
    else:
        # half of them in the header, where the sizes and lengths are
        span = len(data) if kind == 2 else 26
        for _ in range(generator.randrange(1, 4)):
            changed[generator.randrange(span)] = generator.randrange(256)
    if mended and len(changed) > 8:
        changed[4:8] = zlib.crc32(changed[:4] + changed[8:]).to_bytes(4, "little")
    destination.unlink(missing_ok=True)
    refusal, seconds = decode(bytes(changed))
    longest = max(longest, seconds)
    if refusal is not None:
        assert refusal and "\\n" not in refusal and not destination.exists()
        counts["refused"] += 1
    else:
        counts["exact" if np.array_equal(np.asarray(Image.open(destination)), picture) else "other"] += 1
result |= {"need": need, "most": memory("VmHWM") - start, "usual": usual, "longest": longest, "counts": counts}
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def data(codec):
    return codec.compress(picture_of(40, 70, 4))


@pytest.mark.parametrize("checksum", ["as it is", "mended"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory in use from /proc")
def test_a_thousand_changed_files(codec, codec_folder, tmp_path, checksum):
    """With the checksum made right again a changed payload may decode to another picture, never crash or allocate."""
    path = tmp_path / "picture.rlc"
    path.write_bytes(codec.compress(picture_of(256, 256, 4)))
    command = [sys.executable, "-c", MUTATE, str(codec_folder), str(path), checksum]
    # freed memory goes back at once: what is measured is what is in use, not what the allocator keeps
    exact = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=exact)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    counts = result["counts"]
    assert sum(counts.values()) == 1000
    assert counts["refused"] > 900
    if checksum == "as it is":
        assert counts["other"] == 0
    assert result["most"] <= 2 * result["need"]
    assert result["longest"] < 10 * result["usual"] + 2  # seconds
    # a picture that is larger than what is accepted costs nothing, one row counts as 64, a false z costs no more than z itself
    for name, words, most in (
        ("row", "65536×1 pixels, 4194304 when padded", 1 << 20),
        ("huge", "8192×8192 pixels, 67108864 when padded", 1 << 20),
        ("z", "the stream z", 32 << 20),
    ):
        refusal, seconds, taken = result[name]
        assert words in refusal
        assert taken < most
        assert seconds < 2


def test_every_truncation_is_refused(codec, data):
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            codec.decompress(data[:length])
    with pytest.raises(BitstreamError, match="checksum"):
        codec.decompress(data + b"x")


def container_of(codec, height=40, width=70, model=None, streams=(b"", b"", b"", b"")):
    return Container(model or codec.sha256[:8], height, width, streams).to_bytes()


def with_checksum(data: bytes) -> bytes:
    return data[:4] + zlib.crc32(data[:4] + data[8:]).to_bytes(4, "little") + data[8:]


def test_each_refusal_says_why(codec, data):
    other = bytes(8)
    size = "claims a picture of 2000000×2000000 pixels; at least 1×1 and at most 67108864 pixels are accepted"
    cases = [
        (b"", "does not begin with RLC"),
        (b"\xff\xd8\xff" + data, "does not begin with RLC"),
        (data[:15], "it has 15 bytes, its header alone 16"),
        (with_checksum(data[:3] + b"\x02" + data[4:]), "is of version 2, this program reads version 1"),
        (data[:-1] + bytes([data[-1] ^ 1]), "its checksum differs"),
        (container_of(codec, model=other), f"written by the model {other.hex()}, this one is {codec.sha256[:8].hex()}"),
        (container_of(codec, 2_000_000, 2_000_000), size),
        (container_of(codec, 0, 5), "claims a picture of 5×0"),
        (container_of(codec, 1, 1 << 21), "claims a picture of"),
        (with_checksum(data[:16] + b"\x01\x01\x05\x05\x05"), "its streams are longer than itself"),
        (with_checksum(data[:16] + b"\xff" * 9), "a number in its header does not end"),
        (with_checksum(data[:16] + b"\x80\x00" * 5), "has needless zeros"),
        (container_of(codec, streams=(b"\x01\x00", b"", b"", b"")), "ends in a zero byte"),
        (container_of(codec, streams=(b"\x07" * 400, b"", b"", b"")), "the stream z is damaged"),
        (container_of(codec, streams=(b"", b"", b"", b"\x07" * 4000)), "the stream s3 is damaged"),
    ]
    for content, expected in cases:
        with pytest.raises(BitstreamError, match=expected) as caught:
            codec.decompress(content)
        assert "\n" not in str(caught.value)


def test_the_file_byte_by_byte():
    """The example of docs/codec_format.md."""
    container = Container(bytes(range(8)), 300, 7, (b"z", b"", b"s2", b"s3!"))
    data = container.to_bytes()
    assert data.hex(" ") == (
        "52 4c 43 01 " + zlib.crc32(data[:4] + data[8:]).to_bytes(4, "little").hex(" ") + " 00 01 02 03 04 05 06 07 "
        "ac 02 07 01 00 02 7a 73 32 73 33 21"
    )
    assert read_container(data, bytes(range(8))) == container


def test_numbers_of_random_files_round_trip():
    generator = random.Random(0)
    for _ in range(200):
        streams = tuple(generator.randbytes(generator.choice([0, 1, 127, 128, 20000])) for _ in range(4))
        container = Container(
            generator.randbytes(8), generator.randrange(1, 8000), generator.randrange(1, 8000), streams
        )
        assert read_container(container.to_bytes(), container.model) == container
