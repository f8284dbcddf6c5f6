"""Spark with Iceberg tables: one Java machine, which ends with this process, and a session for each client's.

PySpark starts Java with a pipe as its standard input, and Java ends when that pipe closes. So it ends with this
process however this process ends, by SIGKILL too.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from results import ROWS

ICEBERG = "smfs.shaded.org.apache.iceberg"  # where the jar of install.py has Iceberg's classes
CATALOG = "main"
SYSTEM = "system"  # on Databricks this catalog has an information schema of all others

# Java reads a jar's classes from the first on the class path, so the patch of install.py goes before what it patches.
JARS = ["iceberg-on-derby.jar", "sagemaker-feature-store-spark-sdk-3.5.jar"]

# Tables of Iceberg's JDBC catalog. Iceberg asks whether they exist by names in small letters, where Derby has capitals,
# so for each there is an empty one in small letters for it to find; otherwise it would create what is there.
TABLES = [
    'CREATE TABLE "iceberg_tables" ("iceberg_type" INT)',
    'CREATE TABLE "iceberg_namespace_properties" (nothing INT)',
    """CREATE TABLE iceberg_tables (
        catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
        metadata_location VARCHAR(1000), previous_metadata_location VARCHAR(1000), iceberg_type VARCHAR(5),
        PRIMARY KEY (catalog_name, table_namespace, table_name))""",
    """CREATE TABLE iceberg_namespace_properties (
        catalog_name VARCHAR(255) NOT NULL, namespace VARCHAR(255) NOT NULL, property_key VARCHAR(255) NOT NULL,
        property_value VARCHAR(1000), PRIMARY KEY (catalog_name, namespace, property_key))""",
]

JAVA = [
    # Nearly every statement is another and runs once, so only the quick one of Java's two compilers is worth its time:
    # what the other compiles is seldom used again.
    "-XX:TieredStopAtLevel=1",
    "-XX:ReservedCodeCacheSize=512m",  # when it is full, Java begins to interpret
    "-Xmn512m",  # of a statement nothing is left over, and so it need not be copied
    # Spark makes one Java method of a digest of many columns, longer than those that Java compiles unless told to. It
    # would be interpreted, and take five times as long.
    "-XX:-DontCompileHugeMethods",
    "-XX:+UseSerialGC",
    "-Duser.timezone=UTC",
    "-Dderby.system.durability=test",  # no sync to disk: a machine that loses power may lose a stand-in's tables
]


class Engine:
    """One Spark in this process. Its data are in a folder, and are served again by the next that is given it."""

    def __init__(self, folder: Path, jars: Path) -> None:
        os.environ["TZ"] = "UTC"  # PySpark turns Python's dates into Java's through the local time zone
        time.tzset()
        self.folder = folder
        self.volumes = folder / "Volumes"
        self.scratch = folder / "scratch"
        shutil.rmtree(self.scratch, ignore_errors=True)  # of a server that was killed
        for path in (self.volumes, self.scratch):
            path.mkdir(parents=True, exist_ok=True)
        # Names are the same in any case, as in Unity Catalog: the collation makes Derby find and refuse them so.
        self._list = f"jdbc:derby:{folder}/tables;create=true;territory=en_US;collation=TERRITORY_BASED:SECONDARY"
        # More threads than cores: a cancelled task keeps its thread until it looks up, and no other must wait for that.
        builder = SparkSession.builder.master("local[8]").appName("databricks stand-in")
        for key, value in {**self._spark(jars), **self._iceberg()}.items():
            builder = builder.config(key, value)
        self.spark = builder.getOrCreate()
        self.spark.sparkContext.setLogLevel("ERROR")
        self.java: Any = self.spark._jvm
        self._create_list()
        self.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.default")
        self._cancelling = threading.Lock()

    def _spark(self, jars: Path) -> dict[str, str]:
        return {
            # Tables are small, so that one task does what several would have to be told.
            "spark.default.parallelism": "1",
            "spark.driver.memory": "2g",
            "spark.driver.maxResultSize": "0",  # results go to a file as they come
            "spark.driver.extraClassPath": ":".join(str(jars / name) for name in JARS),
            "spark.driver.extraJavaOptions": " ".join([*JAVA, f"-Dderby.stream.error.file={self.folder}/derby.log"]),
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.local.dir": str(self.scratch),
            "spark.log.level": "ERROR",
            "spark.scheduler.mode": "FAIR",  # a long statement must not hold up a short one
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.ansi.enabled": "true",
            "spark.sql.catalogImplementation": "in-memory",
            "spark.sql.execution.arrow.maxRecordsPerBatch": str(ROWS),
            "spark.sql.adaptive.enabled": "false",  # it plans again after each stage
            "spark.sql.leafNodeDefaultParallelism": "1",
            "spark.sql.optimizer.excludedRules": (
                # It deletes whole files without counting their rows, and Databricks tells how many rows it deleted.
                "org.apache.spark.sql.execution.datasources.v2.OptimizeMetadataOnlyDeleteFromTable"
            ),
            "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.timestampType": "TIMESTAMP_LTZ",
            "spark.sql.warehouse.dir": f"file:{self.scratch}/warehouse",
        }

    def _iceberg(self) -> dict[str, str]:
        catalog = f"spark.sql.catalog.{CATALOG}"
        defaults = f"{catalog}.table-default"
        return {
            "spark.sql.defaultCatalog": CATALOG,
            "spark.sql.extensions": f"{ICEBERG}.spark.extensions.IcebergSparkSessionExtensions",
            catalog: f"{ICEBERG}.spark.SparkCatalog",
            f"{catalog}.catalog-impl": f"{ICEBERG}.jdbc.JdbcCatalog",
            f"{catalog}.jdbc.schema-version": "V1",  # the one that has views
            f"{catalog}.uri": self._list,
            f"{catalog}.warehouse": f"file:{self.folder}/warehouse/{CATALOG}",
            f"{catalog}.cache-enabled": "false",  # each session has a cache of its own, and would not see the others
            f"{defaults}.format-version": "2",
            # Rows that a statement changes are then written alone, and so can be counted: see affected.py.
            f"{defaults}.write.delete.mode": "merge-on-read",
            f"{defaults}.write.update.mode": "merge-on-read",
            f"{defaults}.write.merge.mode": "merge-on-read",
            # On Databricks, those who only append never disturb one another.
            f"{defaults}.commit.retry.num-retries": "50",
            f"{defaults}.commit.retry.min-wait-ms": "20",
            f"{defaults}.commit.retry.max-wait-ms": "200",
            # Small pieces, so that one piece of a result fits into memory.
            f"{defaults}.read.split.target-size": str(32 << 20),
            f"{defaults}.write.parquet.row-group-size-bytes": str(16 << 20),
        }

    def listed(self, schema: str) -> list[tuple[str, str]]:
        """The tables and views of a schema: name, and TABLE or VIEW. Quicker than to ask Spark."""
        connection = self._connected()
        try:
            statement = connection.prepareStatement(
                "SELECT table_name, iceberg_type FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ?"
            )
            statement.setString(1, CATALOG)
            statement.setString(2, schema)
            rows, found = statement.executeQuery(), list[tuple[str, str]]()
            while rows.next():
                found.append((rows.getString(1), rows.getString(2) or "TABLE"))
            return found
        finally:
            connection.close()

    def _connected(self) -> Any:
        return self.java.org.apache.derby.jdbc.EmbeddedDriver().connect(self._list, self.java.java.util.Properties())

    def _create_list(self) -> None:
        existed = (self.folder / "tables" / "made").exists()
        connection = self._connected()
        if not existed:
            statement = connection.createStatement()
            for table in TABLES:
                statement.execute(table)
            (self.folder / "tables" / "made").touch()
        connection.close()

    def activate(self, spark: SparkSession) -> None:
        """Makes a session this thread's own: Spark finds catalogs through the thread's session."""
        self.java.org.apache.spark.sql.SparkSession.setActiveSession(spark._jsparkSession)

    def iceberg(self, spark: SparkSession, name: str) -> Any:
        """Iceberg's own table behind a quoted name of three parts."""
        return self.java.smfs.shaded.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, name)

    @contextmanager
    def marked(self, name: str) -> Iterator[str]:
        """Gives a mark that the snapshots carry, under a name, which this thread commits meanwhile.

        Iceberg offers this to Java alone, by a callback; what the callback would set for the thread is set here.
        """
        field = self.java.java.lang.Class.forName(f"{ICEBERG}.spark.CommitMetadata").getDeclaredField(
            "COMMIT_PROPERTIES"
        )
        field.setAccessible(True)
        properties = self.java.java.util.HashMap()
        mark = uuid.uuid4().hex
        properties.put(name, mark)
        of_thread = field.get(None)
        of_thread.set(properties)
        try:
            yield mark
        finally:
            of_thread.remove()

    def cancel(self, group: str) -> None:
        """Ends the jobs of a group that run now."""
        with self._cancelling:
            self.spark.sparkContext.cancelJobGroup(group)
