"""The files for CI: they are what GitHub and GitLab understand, and their commands are Entrepot's."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import pytest
import typer
import yaml

from entrepot.worker.cli.app import app
from entrepot.worker.local.project.project import Project

CI = Path(__file__).parents[2] / "deploy" / "ci"
SCHEMAS = {"github.yml": "vendor.github-workflows", "gitlab.yml": "vendor.gitlab-ci"}


def scripts(node: Any) -> Iterator[str]:
    """What shells are given."""
    if isinstance(node, dict):
        for key, each in node.items():
            if key in ("run", "script", "before_script"):
                yield from each if isinstance(each, list) else [each]
            else:
                yield from scripts(each)
    elif isinstance(node, list):
        for each in node:
            yield from scripts(each)


def loaded(name: str) -> Any:
    return yaml.safe_load((CI / name).read_text())


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
def test_it_is_what_the_forge_understands(name: str, schema: str) -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run([checker, "--builtin-schema", schema, CI / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SCHEMAS)
def test_its_commands_are_there(name: str) -> None:
    every = list(scripts(loaded(name)))
    commands = [found for each in every for found in re.findall(r"^entrepot (.*?)(?: \|\| .*)?$", each, re.MULTILINE)]
    assert {shlex.split(each)[0] for each in commands} == {"test", "ci"}
    assert sum("--drop" in each for each in commands) == 1
    for each in every:
        assert subprocess.run(["bash", "-n"], input=each, text=True, check=False).returncode == 0, each
    for each in commands:
        words = [word for word in shlex.split(each) if word != "$ALLOW"]
        command: Any = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
        command.make_context(words[0], [word.replace("$NUMBER", "12") for word in words[1:]])


@pytest.mark.parametrize("name", SCHEMAS)
def test_breaking_is_allowed_by_a_label_alone(name: str) -> None:
    text = (CI / name).read_text()
    assert text.count("--allow-breaking") == 1
    assert "--rows" not in text


def test_a_new_project_has_the_one_for_github() -> None:
    made = Project(Path("shop"), "blank").files()
    assert made[".github/workflows/entrepot.yml"] == (CI / "github.yml").read_text()


class Notes(BaseHTTPRequestHandler):
    """A merge request's notes, as GitLab answers: two pages of them."""

    notes: ClassVar[list[dict[str, Any]]] = []
    tokens: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        page = int(parse_qs(self.path.partition("?")[2])["page"][0])
        self._answer(self.notes[2 * page - 2 : 2 * page], str(page + 1) if len(self.notes) > 2 * page else "")

    def do_POST(self) -> None:
        self.notes.append({"id": len(self.notes), "body": self._body()})
        self._answer(self.notes[-1])

    def do_PUT(self) -> None:
        note = self.notes[int(self.path.rpartition("/")[2])]
        note["body"] = self._body()
        self._answer(note)

    def _body(self) -> str:
        return parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["body"][0]

    def _answer(self, value: Any, following: str = "") -> None:
        self.tokens.add(self.headers["PRIVATE-TOKEN"])
        self.send_response(200)
        self.send_header("X-Next-Page", following)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def gitlab() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Notes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_note_is_written_once_and_then_in_place(tmp_path: Path) -> None:
    [script] = [each for each in scripts(loaded("gitlab.yml")) if "python" in each]
    Notes.notes[:] = [{"id": n, "body": f"somebody's {n}"} for n in range(3)]
    with gitlab() as url:
        about = {"CI_API_V4_URL": url, "CI_PROJECT_ID": "1", "CI_MERGE_REQUEST_IID": "12", "ENTREPOT_GITLAB_TOKEN": "t"}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        for text in (None, "first & é", "second"):
            if text is not None:
                (tmp_path / "comment.md").write_text(f"<!-- entrepot ci: acme -->\n{text}\n")
            ran = subprocess.run(
                ["bash", "-c", script], cwd=tmp_path, env={**os.environ, **about, "PATH": path},
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert ran.returncode == 0, ran.stderr
            assert len(Notes.notes) == 3 + (text is not None)
    assert Notes.notes[3]["body"] == "<!-- entrepot ci: acme -->\nsecond\n"
    assert Notes.tokens == {"t"}
