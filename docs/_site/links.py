"""Makes the repository's relative links work on the site as well: a hook of MkDocs.

A link that leaves `docs/` leads to a page made of the file: Markdown as it is, other files as code. The README is the
start page. So the pages need no links of two kinds, and a link to a file that is gone fails the build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
START = "README.md"
ALWAYS = (START, "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")
"""Files outside of `docs/` that are pages of the site, whoever links to them."""

_LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_LOADED = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")
_LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".sh": "bash"}


def on_files(files: Any, config: Any) -> Any:
    """Adds a page for each file outside of `docs/` that a page leads to."""
    waiting = [*ALWAYS, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    made: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in made or not (ROOT / path).is_file():
            continue  # of a file that is not there, MkDocs tells which page leads to it
        made.add(path)
        if not path.startswith("docs/"):
            files.append(File.generated(config, page_of(path), content=content(path)))
        if path.endswith(".md"):
            waiting += targets(path, (ROOT / path).read_text())
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Says the links of a page in the site's own paths."""
    path = path_of(page.file.src_uri)
    here = posixpath.dirname(page.file.src_uri)

    def site_link(link: re.Match[str]) -> str:
        target = page_of(posixpath.normpath(posixpath.join(posixpath.dirname(path), link[2])))
        return f"{link[1]}{posixpath.relpath(target, here or '.')}{link[3] or ''})"

    return "".join(_LINK.sub(site_link, text) if is_text else text for text, is_text in parts(markdown))


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Fails the build where a page loads something from a host."""
    if loaded := _LOADED.search(re.sub(r"<link rel=\"?canonical[^>]*>", "", output)):
        raise PluginError(f"{page.file.src_uri} loads something from the network: {loaded[0]}")
    return output


def page_of(path: str) -> str:
    """The site's page of a file of the repository."""
    if path == START:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"


def path_of(page: str) -> str:
    """The file of the repository that a page is made of."""
    if page == "index.md":
        return START
    path = page.removeprefix("repository/")
    if path == page:
        return f"docs/{page}"
    return path if (ROOT / path).is_file() else path.removesuffix(".md")


def targets(path: str, markdown: str) -> list[str]:
    """The files that a Markdown file links to, as paths in the repository."""
    folder = posixpath.dirname(path)
    links = (link for text, is_text in parts(markdown) if is_text for link in _LINK.finditer(text))
    return [posixpath.normpath(posixpath.join(folder, link[2])) for link in links]


def parts(markdown: str) -> Iterator[tuple[str, bool]]:
    """A page in parts: code, which stays as it is, and text."""
    end = 0
    for code in _CODE.finditer(markdown):
        yield markdown[end : code.start()], True
        yield code[0], False
        end = code.end()
    yield markdown[end:], True


def content(path: str) -> str:
    """A file as a page."""
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        return text
    return f"# `{path}`\n\n````{_LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n````\n"
