"""Nothing leads out of a lake: whatever a path is made of, it stands below the root, or is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrepot.activities.runtime.tenant import Tenant
from entrepot.activities.storage import lake
from entrepot.errors import BadInput

NAMES = st.text(st.sampled_from("ab1_-./\\%2eEfF\x00\n:~ é"), max_size=8) | st.text(max_size=8)
ROOTS = ("/data/acme", "s3://bucket/acme", "file:///data/acme")


@given(st.sampled_from(ROOTS), st.lists(NAMES, min_size=1, max_size=4))
@example("/data/acme", ["published", "pr_x/../../../b/published/prod"])
@example("/data/acme", ["raw", "/etc/passwd"])
@example("s3://bucket/acme", ["raw", "%2e%2e", "b"])
def test_a_path_of_names_stays_below_its_root(root: str, parts: list[str]) -> None:
    try:
        path = lake.below(root, *parts)
    except BadInput:
        return
    plain = root.rpartition("://")[2]
    below = path.rpartition("://")[2]
    assert os.path.normpath(below) == below
    assert below.startswith(f"{plain}/")
    assert path.isascii()
    assert not set(path[len(root) :]) & set("\\%\x00\n ~:")
    assert len([part for part in below[len(plain) :].split("/") if part]) >= len(parts)
    assert lake.check_below(root, path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("/data/globex/x.parquet", "/data/acme", "/data/acme/", "/data/acmes/x", "/data/acme/../globex/x"),
        *("/data/acme//x", "/data/acme/./x", "data/acme/x", "s3://bucket/acme/x", "/data/acme/x\n", "/data/acme/x\\y"),
    ],
)
def test_what_is_written_down_elsewhere_is_below_the_root_or_refused(path: str) -> None:
    with pytest.raises(BadInput, match="is no path in a lake"):
        Tenant("acme", {}, "/data/acme", {}).in_lake(path)


@pytest.mark.parametrize("leads", ["../b", "a/../../b", "a\\b", "a%2E%2e/b", "a\nb", "a\x00b", "a/./b"])
def test_no_file_is_touched_under_a_path_that_leads_elsewhere(tmp_path: Path, leads: str) -> None:
    target = f"{tmp_path}/{leads}"
    (tmp_path / "local").write_text("x")
    for touch in (lake.read, lake.exists, lake.size, lake.files, lake.remove):
        with pytest.raises(BadInput, match="is no path in a lake"):
            touch(target)
    with pytest.raises(BadInput):
        lake.write(b"x", target)
    with pytest.raises(BadInput):
        lake.put(str(tmp_path / "local"), target)
    with pytest.raises(BadInput):
        lake.local_copy(target, str(tmp_path), "0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["local"]
