"""Level 2 in a database: SQLite or PostgreSQL, by URL.

A document is one transaction, so a reader sees all of it or none of it. Lists come in pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

metadata = sa.MetaData()
projects = sa.Table(
    "project",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("published", sa.Boolean, nullable=False, default=False),
)
documents = sa.Table(
    "level2",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project", sa.ForeignKey(projects.c.name), nullable=False),
    sa.Column("freqmode", sa.Integer, nullable=False),
    sa.Column("scanid", sa.BigInteger, nullable=False),
    sa.Column("stored", sa.DateTime, nullable=False),  # UTC
    sa.Column("failed", sa.Boolean, nullable=False),
    sa.Column("l2i", sa.JSON, nullable=False),
    sa.Column("l2", sa.JSON, nullable=False),
    sa.Column("l2c", sa.JSON, nullable=False),
    sa.UniqueConstraint("project", "freqmode", "scanid"),
)
# What lists ask for, a row for each different product name or comment of a document.
products, comments = (
    sa.Table(
        name,
        metadata,
        sa.Column("document", sa.ForeignKey(documents.c.id, ondelete="CASCADE"), primary_key=True),
        sa.Column("text", sa.Text, primary_key=True),
    )
    for name in ("level2_product", "level2_comment")
)


@dataclass(frozen=True)
class Document:
    """What was delivered for a scan; a failed scan has no products."""

    freqmode: int
    scanid: int
    l2i: dict[str, Any]
    l2: list[dict[str, Any]]
    l2c: list[str]
    stored: datetime
    failed: bool


def _storable(text: str) -> str:
    """A text as both databases take it: no lone surrogates, no NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


class Store:
    """The database at a SQLAlchemy URL; raises sqlalchemy.exc.SQLAlchemyError if it cannot be used."""

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise sa.exc.ArgumentError("the URL must be of sqlite or postgresql")
        if parsed.drivername == "postgresql":  # the driver that the image has is not SQLAlchemy's default
            parsed = parsed.set(drivername="postgresql+psycopg")
        self._engine = sa.create_engine(parsed, pool_pre_ping=True)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _configure_sqlite)
        self._insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        metadata.create_all(self._engine)
        # The server forks after this; its children must not share connections.
        self._engine.dispose()

    def ping(self) -> None:
        with self._engine.connect() as db:
            db.execute(sa.select(1))

    def put(self, project: str, document: Document, replace: bool) -> bool:
        """Store a document; False if the scan is there already and must not be replaced."""
        insert = self._insert(documents).values(
            project=project,
            freqmode=document.freqmode,
            scanid=document.scanid,
            stored=document.stored,
            failed=document.failed,
            l2i=document.l2i,
            l2=document.l2,
            l2c=document.l2c,
        )
        key = [documents.c.project, documents.c.freqmode, documents.c.scanid]
        if replace:
            names = ("stored", "failed", "l2i", "l2", "l2c")
            insert = insert.on_conflict_do_update(
                index_elements=key, set_={name: insert.excluded[name] for name in names}
            )
        else:
            insert = insert.on_conflict_do_nothing(index_elements=key)
        with self._engine.begin() as db:
            db.execute(self._insert(projects).values(name=project).on_conflict_do_nothing())
            # From here on a second delivery of the same scan waits for this one.
            number = db.execute(insert.returning(documents.c.id)).scalar()
            if number is None:
                return False
            for table, texts in (
                (products, [str(product["Product"]) for product in document.l2]),
                (comments, document.l2c),
            ):
                db.execute(sa.delete(table).where(table.c.document == number))
                if rows := [{"document": number, "text": text} for text in sorted({*map(_storable, texts)})]:
                    db.execute(sa.insert(table), rows)
        return True

    def delete(self, project: str, freqmode: int, scanid: int) -> None:
        with self._engine.begin() as db:
            db.execute(sa.delete(documents).where(*_of(project, freqmode), documents.c.scanid == scanid))

    def get(self, project: str, freqmode: int, scanid: int) -> Document | None:
        query = sa.select(documents).where(*_of(project, freqmode), documents.c.scanid == scanid)
        with self._engine.connect() as db:
            row = db.execute(query).one_or_none()
        return Document(**{name: getattr(row, name) for name in Document.__dataclass_fields__}) if row else None

    def published(self, project: str) -> bool | None:
        """Whether a project is published; None if there is no such project."""
        with self._engine.connect() as db:
            return db.execute(sa.select(projects.c.published).where(projects.c.name == project)).scalar()

    def publish(self, project: str) -> bool:
        """Publish a project; False if there is none under development."""
        under_development = (projects.c.name == project) & ~projects.c.published
        with self._engine.begin() as db:
            return bool(db.execute(sa.update(projects).where(under_development).values(published=True)).rowcount)

    def projects(self, published: bool | None) -> sa.Select[Any]:
        query = sa.select(projects.c.name).order_by(projects.c.name)
        return query if published is None else query.where(projects.c.published == published)

    def freqmodes(self, project: str) -> sa.Select[Any]:
        query = sa.select(documents.c.freqmode).where(documents.c.project == project)
        return query.distinct().order_by(documents.c.freqmode)

    def products(self, project: str) -> sa.Select[Any]:
        query = sa.select(products.c.text).join(documents).where(documents.c.project == project)
        return query.distinct().order_by(products.c.text)

    def comments(self, project: str, freqmode: int) -> sa.Select[Any]:
        query = sa.select(comments.c.text).join(documents).where(*_of(project, freqmode))
        return query.distinct().order_by(comments.c.text)

    def scans(
        self, project: str, freqmode: int, failed: bool, first: int | None, end: int | None, comment: str | None
    ) -> sa.Select[Any]:
        """Scan ids and comments of what was delivered, for ids from `first` to before `end`."""
        query = sa.select(documents.c.scanid, documents.c.l2c).where(
            *_of(project, freqmode), documents.c.failed == failed
        )
        if first is not None:
            query = query.where(documents.c.scanid >= first)
        if end is not None:
            query = query.where(documents.c.scanid < end)
        if comment is not None:
            query = query.join(comments).where(comments.c.text == comment)
        return query.order_by(documents.c.scanid)

    def page(self, query: sa.Select[Any], offset: int, limit: int) -> tuple[int, Iterable[Any]]:
        """How many rows a query has, and those of a page."""
        with self._engine.connect() as db:
            count = db.execute(sa.select(sa.func.count()).select_from(query.order_by(None).subquery())).scalar_one()
            return count, db.execute(query.offset(offset).limit(limit)).all()


def _of(project: str, freqmode: int) -> tuple[sa.ColumnElement[bool], ...]:
    return documents.c.project == project, documents.c.freqmode == freqmode


def _configure_sqlite(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def now() -> datetime:
    """The time in whole seconds UTC, as databases keep it: without zone."""
    return datetime.now(UTC).replace(microsecond=0, tzinfo=None)
