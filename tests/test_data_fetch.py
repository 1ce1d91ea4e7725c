"""Fetching against a local server: whole files, broken connections, wrong files, no server."""

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from text2cinemagraph.data.fetch import SOURCES, Source, complete, download, fetch, main, unpack

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """/file honours ranges, /plain does not, /breaks promises more than it sends, /page is a web page, else 404."""

    ranges = []

    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
        self.ranges.append(start)
        body = {
            "/file": CONTENT,
            "/plain": CONTENT,
            "/breaks": CONTENT,
            "/page": b"<!DOCTYPE html><html>quota</html>",
        }.get(self.path)
        if body is None:
            return self.send_error(404)
        if self.path != "/plain" and start:
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            body = body[start:]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if self.path == "/breaks" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.ranges = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_file_comes_whole_and_checked(server, tmp_path):
    download(f"{server}/file", tmp_path / "a" / "weights.pth", DIGEST[:8])
    assert (tmp_path / "a" / "weights.pth").read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["weights.pth"]


@pytest.mark.parametrize("route, asked", [("/file", 1000), ("/plain", 1000)])
def test_an_interrupted_download_goes_on(server, tmp_path, route, asked):
    with pytest.raises(OSError, match="goes on where it stopped"):
        download(f"{server}/breaks", tmp_path / "w.pth", DIGEST)
    assert (tmp_path / "w.pth.part").stat().st_size == 1000 and not (tmp_path / "w.pth").exists()
    download(f"{server}{route}", tmp_path / "w.pth", DIGEST)
    assert (tmp_path / "w.pth").read_bytes() == CONTENT and Handler.ranges == [0, asked]


def test_a_part_that_was_whole_already_is_kept(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    download(f"{server}/file", tmp_path / "w.pth", DIGEST)
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


@pytest.mark.parametrize("route, digest, word", [("/file", "00" * 32, "sha256"), ("/page", "", "web page")])
def test_a_wrong_file_is_refused_and_removed(server, tmp_path, route, digest, word):
    with pytest.raises(ValueError, match=word):
        download(server + route, tmp_path / "w.pth", digest)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_reached_is_said_in_a_line(server, tmp_path, capsys, monkeypatch):
    with pytest.raises(OSError, match="404"):
        download(f"{server}/none", tmp_path / "w.pth")
    with pytest.raises(OSError, match="check the connection"):
        download("http://127.0.0.1:9/x", tmp_path / "w.pth")
    monkeypatch.setitem(SOURCES, "i3d", Source("file", "http://127.0.0.1:9/x", "i3d/x.pt", "what"))
    assert main(["i3d", "--to", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") >= 1 and "error: i3d: cannot fetch" in captured.err and "missing" in captured.out


def test_the_hub_says_what_to_do_without_a_connection(tmp_path, monkeypatch):
    import huggingface_hub

    def no_connection(*_, **__):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_connection)
    with pytest.raises(OSError, match="Hugging Face hub .*nobody there.*copy the repository to"):
        fetch(SOURCES["stable-diffusion"], tmp_path)


def test_the_authors_tar_is_unpacked_where_the_configs_look(tmp_path, monkeypatch):
    source, archive = SOURCES["authors"], io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in source.needed:
            info = tarfile.TarInfo(f"./checkpoints/{name}")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))
    fake = type(
        "gdown",
        (),
        {
            "download": staticmethod(
                lambda id, output, resume: (
                    open(output, "wb").write(archive.getvalue()) if id == source.url and resume else None
                )
            )
        },
    )
    monkeypatch.setitem(__import__("sys").modules, "gdown", fake)
    assert fetch(source, tmp_path) and complete(source, tmp_path) and not fetch(source, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(name.split("/")[0] for name in source.needed)


def test_a_tar_cannot_write_elsewhere_and_a_broken_one_is_told(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        info = tarfile.TarInfo("../outside.txt")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(ValueError, match="evil.tar"):
        unpack(tmp_path / "evil.tar", tmp_path / "in")
    assert not (tmp_path / "outside.txt").exists()
    (tmp_path / "half.tar").write_bytes(b"no tar at all")
    with pytest.raises(ValueError, match="delete it and fetch it again"):
        unpack(tmp_path / "half.tar", tmp_path / "in")


def test_unknown_names_are_told_and_no_names_list(tmp_path, capsys):
    with pytest.raises(ValueError, match="choose all or some of stable-diffusion"):
        main(["stable-difusion"])
    assert main(["--to", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in SOURCES)
