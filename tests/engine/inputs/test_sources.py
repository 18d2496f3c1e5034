from pathlib import Path

import pytest
from relatent.engine.errors import UsageError
from relatent.engine.inputs.sources import MAX_NAME_BYTES, bsds500_folder, discover, safe_name


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def test_splits_order_and_what_is_passed_over(tmp_path):
    touch(
        tmp_path,
        "train/b.png",
        "train/a.jpg",
        "x/val/c.png",
        "loose.png",
        "notes.txt",
        "._shadow.png",
        ".git/d.png",
        "out/e.png",
    )
    found = discover(tmp_path, exclude=[tmp_path / "out"])
    assert [(s.relative, s.split) for s in found] == [
        ("train/a.jpg", "train"),
        ("train/b.png", "train"),
        ("x/val/c.png", "val"),
        ("loose.png", "all"),
    ]
    assert [s.relative for s in discover(tmp_path, limit=1, exclude=[tmp_path / "out"])] == [
        "train/a.jpg",
        "x/val/c.png",
        "loose.png",
    ]


def test_one_image_and_a_list(tmp_path):
    touch(tmp_path, "a.png", "sub/test/b.png")
    assert discover(tmp_path / "a.png")[0].name == "a"
    listed = tmp_path / "sub" / "list.txt"
    listed.write_text(f"# a comment\n\n../a.png\ntest/b.png\n{tmp_path / 'absent.png'}\n")
    found = discover(listed)
    assert [(s.relative, s.name, s.split) for s in found] == [
        ("../a.png", "a", "all"),
        ("test/b.png", "b", "test"),
        ("../absent.png", "absent", "all"),
    ]


def test_stems_that_meet_are_kept_apart(tmp_path):
    touch(tmp_path, "a/photo.png", "b/photo.jpg", "b/Photo.png", "c/other.png")
    names = [source.name for source in discover(tmp_path)]
    assert len({name.casefold() for name in names}) == 4
    assert "other" in names
    listed = tmp_path / "twice.txt"
    listed.write_text("c/other.png\nc/other.png\n")
    assert len({source.name for source in discover(listed)}) == 2


NAMES = ["naïve 写真 🐈", "-rf", ".. up", "a b", "..", "a\nb", 'q"<>|?*', "x" * 250, "猫" * 80, "con.", "   ", "tab\t"]


@pytest.mark.parametrize("stem", NAMES)
def test_names_are_safe_and_stay_readable(tmp_path, stem):
    name = safe_name(stem)
    assert name
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert not set(name) & set('/\\\0\n\t<>:"|?*')
    assert name[0] not in ".-"
    root = (tmp_path / "out").resolve()
    assert (root / name).resolve().parent == root
    (tmp_path / name).write_bytes(b"")  # the file system takes it


def test_safe_name_keeps_unicode_and_tells_long_ones_apart():
    assert safe_name("naïve 写真") == "naïve 写真"
    assert safe_name("x" * 250 + "1") != safe_name("x" * 250 + "2")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "absent", "no such image, folder or text file"),
        (lambda p: p, "no image in the folder"),
        (lambda p: touch(p, "empty.txt") / "empty.txt", "names no image"),
        (lambda p: (touch(p, "b.txt") / "b.txt").write_bytes(b"\xff\xfe") and p / "b.txt", "cannot read the list"),
    ],
)
def test_nothing_to_find(tmp_path, make, words):
    with pytest.raises(UsageError, match=words):
        discover(make(tmp_path))


def test_bsds500_path(tmp_path, monkeypatch):
    monkeypatch.delenv("BSDS500_PATH", raising=False)
    with pytest.raises(UsageError, match="BSDS500_PATH is not set"):
        bsds500_folder()
    monkeypatch.setenv("BSDS500_PATH", str(tmp_path))
    with pytest.raises(UsageError, match="found neither"):
        bsds500_folder()
    touch(tmp_path, "BSDS500/data/images/test/1.jpg")
    assert bsds500_folder() == tmp_path / "BSDS500/data/images"
    assert bsds500_folder(tmp_path / "BSDS500") == tmp_path / "BSDS500/data/images"
