"""The text beside a picture: where it is looked for, and what a file that is not as it should be costs."""

import os

import pytest
from helpers import picture
from PIL import Image
from relatent.engine.inputs.captions import find_caption
from relatent.engine.inputs.images import LoadedImage
from relatent.engine.inputs.prefetch import Reader
from relatent.engine.inputs.sources import Source


def save(folder, name="a.png"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(32, 32)).save(folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("files", "caption"),
    [
        ({}, ""),
        ({"a.txt": " a cat \n"}, "a cat"),
        ({"a.caption": "a dog"}, "a dog"),
        ({"a.txt": "first", "a.caption": "second"}, "first"),
        ({"a.txt": "first", "metadata.jsonl": '{"file_name": "a.png", "text": "listed"}'}, "first"),
        ({"a.txt": "", "metadata.jsonl": '{"file_name": "a.png", "text": "listed"}'}, ""),
        ({"metadata.jsonl": '{"file_name": "b.png", "text": "b"}\n\n{"file_name": "a.png", "text": "a naïve 写真"}'}, "a naïve 写真"),
        ({"metadata.jsonl": '{"file_name": "./a.png", "caption": "by caption"}'}, "by caption"),
        ({"metadata.jsonl": '{"file_name": "a.png", "caption": "c", "text": "t"}'}, "t"),
        ({"metadata.jsonl": '{"file_name": "sub/a.png", "text": "of another folder"}'}, ""),
        ({"metadata.jsonl": '{"file_name": "a.png", "text": 7}'}, ""),
        ({"a.txt": "one\0two"}, "onetwo"),
        ({"metadata.jsonl": '{"file_name": "a.png", "text": "half \\ud800 pair"}'}, "half ? pair"),
        ({"b.txt": "of another picture"}, ""),
    ],
)  # fmt: skip
def test_where_a_caption_is_found(tmp_path, files, caption):
    path = save(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert find_caption(path) == (caption, ())


def test_a_byte_order_mark_is_no_part_of_it(tmp_path):
    path = save(tmp_path)
    (tmp_path / "a.txt").write_bytes("\ufeffa cat".encode())
    assert find_caption(path) == ("a cat", ())


def test_what_is_not_as_it_should_be_is_said(tmp_path):
    path = save(tmp_path / "latin")
    (tmp_path / "latin" / "a.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert find_caption(path) == ("caf\ufffd", ("caption a.txt is not UTF-8, bytes replaced",))
    path = save(tmp_path / "list")
    (tmp_path / "list" / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}\n{"text": 1}\n[\n"x"\n')
    assert find_caption(path) == ("a", ("metadata.jsonl: 3 lines without a file_name left out",))


def test_a_list_that_changes_is_read_again(tmp_path):
    path, listed = save(tmp_path), tmp_path / "metadata.jsonl"
    for text in ("before", "and after"):
        listed.write_text(f'{{"file_name": "a.png", "text": "{text}"}}')
        assert find_caption(path)[0] == text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_is_not_opened(tmp_path):
    path = save(tmp_path)
    os.mkfifo(tmp_path / "a.txt")
    assert find_caption(path) == ("", ())


def test_it_is_read_with_the_picture(tmp_path):
    path = save(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    image = Reader(32).read(Source(str(path), "a.png", "a", "all"))
    assert isinstance(image, LoadedImage)
    assert image.caption == "caf\ufffd"
    assert image.conversions == ("caption a.txt is not UTF-8, bytes replaced",)
