"""`entrepot ci`: a change is built by the code that stands there, beside what others run, and told in one comment."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.worker.processes import Place, said

PIPELINE = "shop/pipeline.py"


def change(place: Place, before: str, after: str) -> None:
    """Edits the pipeline."""
    path = place.folder / PIPELINE
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def checkout(place: Place, folder: Path) -> Place:
    """Another checkout of the same project, with the same server and warehouse."""
    shutil.copytree(place.folder, folder, ignore=shutil.ignore_patterns("state", "*.log"))
    made = Place(folder, place.port, place.ui_port, keeps_tenants=True)
    (folder / "tenants.toml").write_text((place.folder / "tenants.toml").read_text())
    return made


def test_a_change_is_built_by_its_own_code_beside_the_workers_of_prod(tmp_path: Path) -> None:
    place = Place(tmp_path / "shop", keeps_tenants=True)
    said(place.entrepot("init", "--template", "shop"), 0)
    with place.dev():
        said(place.entrepot("run", "shop"), 0)
        theirs = checkout(place, tmp_path / "pull" / "shop")
        state = {"ENTREPOT_STATE": str(place.state), "GITHUB_REF": "refs/pull/12/merge"}
        state |= {"TEMPORAL_NAMESPACE": "", "TEMPORAL_API_KEY": ""}  # as GitHub gives variables that nobody has set

        change(theirs, "amount=_.amount.sum(), returned=_.returned.mean()", "amount=_.amount.sum() + 1")
        change(theirs, "sales.filter(_.country.isnull())", "sales.filter(_.amount > 100)")
        broken = theirs.entrepot("ci", **state)
        assert broken.returncode == 1
        assert "**Breaking** (fails unless it is allowed): `sales_by_country`" in broken.stdout
        assert "| ~ | `sales_by_country` | transform | its code or a parameter changed · **breaking**:" in broken.stdout
        assert "| `files` | ingest | hold | not selected |" in broken.stdout
        assert "- ⚠ check `unknown_customers` warns: 168 violating rows\n" in broken.stdout
        assert "sale_id" not in broken.stdout + broken.stderr
        assert "returned" in said(place.entrepot("show", "shop", "sales_by_country", "--json"), 0)
        in_pull = ("show", "shop", "sales_by_country", "-e", "pr_12", "--json")
        assert "returned" not in said(place.entrepot(*in_pull), 0)

        change(theirs, 'severity="warn"', 'severity="block"')
        failed = theirs.entrepot("ci", "--output", "comment.md", **state)
        assert failed.returncode == 1
        comment = (theirs.folder / "comment.md").read_text()
        assert comment.startswith("<!-- entrepot ci: local -->\n### ✗ A pipeline could not be built\n")
        assert "blocks: 168 violating rows\n```" in comment
        assert "sale_id" not in comment + failed.stderr

        assert said(theirs.entrepot("ci", "--drop", **state), 0) == "✓ dropped pr_12 of shop\n"
        assert said(theirs.entrepot("ci", "--drop", **state), 0) == "✓ nothing to drop: no pr_12\n"
        assert "pr_12" not in said(place.entrepot("env", "list"), 0)
        left = said(place.temporal("workflow", "list", "--query", "ExecutionStatus = 'Running'"), 0)
        assert "pr_12" not in left


def test_without_a_server_it_has_one_of_its_own_and_everything_is_new(tmp_path: Path) -> None:
    place = Place(tmp_path / "shop", keeps_tenants=True)
    said(place.entrepot("init", "--template", "shop"), 0)
    made = place.entrepot("ci", "--number", "7", TEMPORAL_ADDRESS="")
    assert (made.returncode, made.stderr) == (0, "✓ shop in pr_7\n")
    assert "`prod` shows nothing of it yet: everything is new." in made.stdout
    assert "| `sales` | transform | run | new in pr_7 |" in made.stdout


def test_what_cannot_be_meant_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for arguments, sentence in (
        (("--number", "0x1"), "--number '0x1' is no number of a pull request"),
        ((), "the number of the pull request is not known"),
        (("nope", "--number", "1"), "tenant 'acme': unknown pipeline 'nope'"),
        (("--number", "1", "--select", "sales"), "a selection is of one pipeline's steps: name the pipeline"),
        (("--number", "1", "--output", "nowhere/comment.md"), "there is no folder"),
    ):
        assert sentence in said(place.entrepot("ci", *arguments, GITHUB_REF="refs/heads/main"), 2)
    alone = said(place.entrepot("ci", "--number", "1"), 3)
    assert f"no Temporal server answers at {place.address}" in alone
