import codecs
import os
import tempfile
from pathlib import Path

import pytest
from relatent.engine.errors import UsageError
from relatent.engine.inputs.decoding import optional
from relatent.engine.inputs.folders import skipped_line
from relatent.engine.inputs.sources import MAX_NAME_BYTES, bsds500_folder, discover, discover_all, safe_name


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
        (lambda p: (touch(p, "b.txt") / "b.txt").write_bytes(b"\xff\xfd") and p / "b.txt", "cannot read the list"),
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


def passed_over(discovery):
    return {one.kind: (one.count, one.first) for one in discovery.skipped}


def test_what_is_passed_over_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(optional, "_is_installed", lambda package: False)
    touch(
        tmp_path,
        "a.jpg",
        "b.HEIC",
        "c/d.heic",
        "e.jxl",
        "f.CR2",
        "g.nef",
        "h.psd",
        "notes.txt",
        "a.json",
        ".DS_Store",
        ".git/x.cr2",
    )
    found = discover_all(tmp_path)
    assert [source.relative for source in found.sources] == ["a.jpg"]
    assert passed_over(found) == {
        ".heic": (2, "b.HEIC"),
        ".jxl": (1, "e.jxl"),
        ".cr2": (1, "f.CR2"),
        ".nef": (1, "g.nef"),
        ".psd": (1, "h.psd"),
        "other files": (2, "a.json"),
    }
    lines = [skipped_line(one.to_dict()) for one in found.skipped]
    assert lines[0] == 'skipped: 2 (.heic, HEIC needs pip install "relatent[heif]"): b.HEIC …'
    assert 'skipped: 1 (.jxl, JPEG XL needs pip install "relatent[jxl]"): e.jxl' in lines
    assert lines[-1] == "skipped: 2 (other files, no picture)"
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(UsageError, match=r"no image in the folder .*; skipped: 2 \(\.heic, HEIC needs pip install"):
        discover_all(tmp_path)


def test_captions_are_used_and_not_passed_over(tmp_path):
    touch(tmp_path, "a.jpg", "a.txt", "a.caption", "metadata.jsonl", "b.txt", "sub/a.txt")
    assert passed_over(discover_all(tmp_path)) == {"other files": (2, "b.txt")}


def test_kinds_with_their_package_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(optional, "_is_installed", lambda package: package == "pillow_heif")
    touch(tmp_path, "a.jpg", "b.HEIC", "c.hif", "d.jxl", "e.mpo", "f.apng")
    found = discover_all(tmp_path)
    assert [source.relative for source in found.sources] == ["a.jpg", "b.HEIC", "c.hif", "e.mpo", "f.apng"]
    assert passed_over(found) == {".jxl": (1, "d.jxl")}


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path):
    root, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    touch(root, "a/1.png")
    touch(elsewhere, "2.png", "deep/3.png")
    (root / "train").symlink_to(elsewhere)
    (root / "a" / "up").symlink_to(root)
    (elsewhere / "back").symlink_to(root / "a")
    (root / "again").symlink_to(elsewhere / "deep")  # sorted before train: read under this name
    (root / "broken").symlink_to(tmp_path / "absent")
    found = discover_all(root)
    assert [(source.relative, source.split) for source in found.sources] == [
        ("train/2.png", "train"),
        ("a/1.png", "all"),
        ("again/3.png", "all"),
    ]
    assert passed_over(found) == {"linked folders": (3, "a/up"), "other files": (1, "broken")}
    assert [source.relative for source in discover(root, exclude=[elsewhere])] == ["a/1.png"]
    assert [source.relative for source in discover(root / "train")] == ["2.png", "back/1.png", "deep/3.png"]


def test_folders_that_relatent_has_written_are_passed_over(tmp_path):
    touch(tmp_path, "a.png", "old/png/x.png", "old/shards/y.png", "export/png/z.png", "theirs/b.png")
    (tmp_path / "old" / "run.json").write_text('{\n "schema": "relatent/1",\n "status": "done"\n}')
    (tmp_path / "export" / "relatent.json").write_text('{\n "schema": "relatent/1",\n "format": "png"\n}')
    (tmp_path / "theirs" / "run.json").write_text('{"schema": "of another program"}')
    found = discover_all(tmp_path)
    assert [source.relative for source in found.sources] == ["a.png", "theirs/b.png"]
    assert passed_over(found) == {"folders of relatent": (2, "export"), "other files": (1, "theirs/run.json")}
    assert [source.relative for source in discover(tmp_path / "old" / "png")] == ["x.png"]  # where it is asked for


def test_unreadable_folders_are_counted():
    with tempfile.TemporaryDirectory() as folder:  # where another user may enter, unlike pytest's own
        root = touch(Path(folder), "a.png", "closed/b.png", "closed/deep/c.png", "shut/d.png")
        root.chmod(0o755)
        for name in ("closed", "shut"):
            (root / name).chmod(0)
        superuser = os.geteuid() == 0
        try:
            if superuser:  # to whom nothing is closed
                os.seteuid(65534)
            found = discover_all(root)
        finally:
            if superuser:
                os.seteuid(0)
            for name in ("closed", "shut"):
                (root / name).chmod(0o755)
    assert [source.relative for source in found.sources] == ["a.png"]
    assert passed_over(found) == {"unreadable folders": (2, "closed")}
    assert found.skipped[0].reason == "Permission denied"


def entries(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    return [source.path for source in discover(tmp_path / "list.txt")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_every_encoding_that_says_so(tmp_path, encoding, end):
    text = end.join(["é/1.png", "  # an indented comment", "", "#another", "写真.png", ""])
    assert entries(tmp_path, text.encode(encoding)) == [str(tmp_path / name) for name in ("é/1.png", "写真.png")]
    marked = codecs.BOM_UTF16_BE + "a.png".encode("utf-16-be")
    assert entries(tmp_path, marked) == [str(tmp_path / "a.png")]


def test_quotes_home_and_addresses_in_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    lines = ["'a b.png'", '"c d.png"', "~/e.png", "file:///tmp/f%20g.png", "file://localhost/h.png", '"~/i.png"']
    expected = [
        tmp_path / "a b.png",
        tmp_path / "c d.png",
        tmp_path / "home/e.png",
        "/tmp/f g.png",
        "/h.png",
        tmp_path / "home/i.png",
    ]
    assert entries(tmp_path, "\n".join(lines).encode()) == [str(path) for path in expected]
    touch(tmp_path, "'a b.png'", "~x.png")  # files of just that name go first
    assert entries(tmp_path, b"'a b.png'\n~x.png\n") == [str(tmp_path / "'a b.png'"), str(tmp_path / "~x.png")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a.png\nb\0.png\n", r"holds a NUL character in line 2: .*not -print0"),
        ("a.png\nb.png\n".encode("utf-16-le"), r"holds a NUL character in line 1: .*in UTF-8"),
        ("a.png\ncafé.png\n".encode("latin-1"), r"line 2 is no UTF-8 .*; save it as UTF-8, for example by iconv"),
        (codecs.BOM_UTF16_LE + b"a", r"line 1 is no UTF-16 .*; save it as UTF-8$"),
        (b"a.png\nfile://server/b.png\n", r"line 2: file://server/b.png is no file of this machine .*plain path"),
        (b"\xef\xbb\xbf\n# nothing\n", "names no image"),
    ],
)
def test_lists_that_are_refused_say_what_to_do(tmp_path, content, words):
    with pytest.raises(UsageError, match=words):
        entries(tmp_path, content)


def test_pipes_are_never_opened(tmp_path):
    for name, words in (("list.txt", "is a named pipe, expected a regular file"), ("a.png", "a named pipe, expected")):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UsageError, match=words):
            discover(tmp_path / name)
