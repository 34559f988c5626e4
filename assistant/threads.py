"""Threads kept in a database: SQLite in Crashcart's folder, or any that SQLAlchemy reaches by URL."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assistant.conversation import Turn
from kb.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

NAME = re.compile(r"[\w.:@-]{1,128}", re.ASCII)
BUSY_SECONDS = 20
TRIES = 5
DAY_SECONDS = 86_400
CLAIM_CHARACTERS = 200
TITLE_CHARACTERS = 80


class ThreadError(InputError):
    """A thread or its database that cannot be used."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A kept exchange. `turn` is None where the answer never came (the program ended first); times are Unix seconds."""

    place: int
    created: float
    text: str
    turn: Turn | None
    helped: bool | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation in a list: its name, the beginning of its first question, when it was last written to."""

    id: str
    title: str
    updated: float
    turns: int


def new_thread() -> str:
    """A name that nobody can guess."""
    return uuid.uuid4().hex


def check_thread(name: str) -> str:
    """The name itself; raises ThreadError for one that cannot be a thread's."""
    if not NAME.fullmatch(name):
        raise ThreadError(f"{name[:40]!r} cannot name a thread: up to 128 letters, digits, '.', ':', '@', '_' and '-'.")
    return name


class Threads:
    """Conversations by name. Everything is masked before it is written; several processes may share one database.

    Raises ThreadError where the database cannot be opened or written.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    @classmethod
    def in_folder(cls, home: Path) -> Threads:
        """The SQLite file in Crashcart's folder."""
        home.mkdir(parents=True, exist_ok=True)
        return cls(f"sqlite:///{home / 'threads.sqlite3'}")

    def begin(self, thread: str, text: str) -> int:
        """Keep a question before it is answered, so that a crash does not lose it; gives its place, from 1."""
        from sqlalchemy import func, insert, literal, select
        from sqlalchemy.exc import IntegrityError

        from probes.reading.mask import mask

        t = self._turns
        place = select(func.coalesce(func.max(t.c.place), 0) + 1).where(t.c.thread == check_thread(thread))
        values = [literal(thread), place.scalar_subquery(), literal(time.time()), literal(mask(text))]
        row = insert(t).from_select(["thread", "place", "created", "text"], select(*values)).returning(t.c.place)
        for attempt in range(TRIES):
            try:
                with self._writing() as connection:
                    return int(connection.execute(row).scalar_one())
            except IntegrityError:  # another process took the same place
                if attempt == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def finish(self, thread: str, place: int, turn: Turn) -> None:
        """Keep what was answered; nothing where the thread was deleted meanwhile."""
        import msgspec
        from sqlalchemy import update

        from probes.reading.mask import mask_values

        t = self._turns
        told = msgspec.json.encode(mask_values(msgspec.to_builtins(turn))).decode()
        with self._writing() as connection:
            connection.execute(update(t).where(t.c.thread == thread, t.c.place == place).values(turn=told))

    def rate(self, thread: str, place: int, helped: bool) -> None:
        """Keep whether an answer helped."""
        from sqlalchemy import update

        t = self._turns
        with self._writing() as connection:
            connection.execute(update(t).where(t.c.thread == thread, t.c.place == place).values(helped=helped))

    def read(self, thread: str) -> tuple[Asked, ...]:
        """Everything asked in a thread, oldest first; empty for a thread that does not exist."""
        from sqlalchemy import select

        t = self._turns
        with self._reading() as connection:
            rows = connection.execute(select(t).where(t.c.thread == thread).order_by(t.c.place)).all()
        return tuple(Asked(r.place, r.created, r.text, _turn(r.turn), r.helped) for r in rows)

    def turns(self, thread: str) -> tuple[Turn, ...]:
        """The answered turns of a thread, oldest first."""
        return tuple(asked.turn for asked in self.read(thread) if asked.turn)

    def list(self, limit: int = 50) -> tuple[Thread, ...]:
        """The threads last written to, newest first."""
        from sqlalchemy import func, select

        t = self._turns
        ends = select(
            t.c.thread,
            func.min(t.c.place).label("first"),
            func.max(t.c.created).label("updated"),
            func.count().label("n"),
        )
        each = ends.group_by(t.c.thread).order_by(func.max(t.c.created).desc()).limit(limit).subquery()
        chosen = select(each, t.c.text).join(t, (t.c.thread == each.c.thread) & (t.c.place == each.c.first))
        with self._reading() as connection:
            rows = connection.execute(chosen.order_by(each.c.updated.desc())).all()
        return tuple(Thread(r.thread, title_of(r.text), r.updated, r.n) for r in rows)

    def delete(self, thread: str) -> bool:
        """Forget a thread; tells whether there was one."""
        from sqlalchemy import delete

        t = self._turns
        with self._writing() as connection:
            return connection.execute(delete(t).where(t.c.thread == thread)).rowcount > 0

    def take_back(self, thread: str, place: int) -> bool:
        """Forget one question with its answer; tells whether there was one."""
        from sqlalchemy import delete

        t = self._turns
        with self._writing() as connection:
            return connection.execute(delete(t).where(t.c.thread == thread, t.c.place == place)).rowcount > 0

    def prune(self, days: float) -> int:
        """Forget threads to which nothing was written for so many days; gives how many questions that were."""
        from sqlalchemy import delete, func, select

        t = self._turns
        old = select(t.c.thread).group_by(t.c.thread).having(func.max(t.c.created) < time.time() - days * DAY_SECONDS)
        with self._writing() as connection:
            return int(connection.execute(delete(t).where(t.c.thread.in_(old))).rowcount)

    def claim(self, key: str) -> bool:
        """Whether this is the first time in a day that anybody, in any process, claims the key: an event sent twice is done once."""
        from sqlalchemy import delete, insert
        from sqlalchemy.exc import IntegrityError

        t = self._claims
        try:
            with self._writing() as connection:
                connection.execute(delete(t).where(t.c.at < time.time() - DAY_SECONDS))
                connection.execute(insert(t).values(key=key[:CLAIM_CHARACTERS], at=time.time()))
        except IntegrityError:
            return False
        return True

    def close(self) -> None:
        """End the connections."""
        if "_engine" in self.__dict__:
            self._engine.dispose()
            del self.__dict__["_engine"]

    @cached_property
    def _turns(self) -> Table:
        from sqlalchemy import Boolean, Column, Float, Integer, MetaData, String, Table, Text

        return Table(
            "turns",
            MetaData(),
            Column("thread", String(128), primary_key=True),
            Column("place", Integer, primary_key=True, autoincrement=False),
            Column("created", Float, nullable=False, index=True),
            Column("text", Text, nullable=False),
            Column("turn", Text),
            Column("helped", Boolean),
        )

    @cached_property
    def _claims(self) -> Table:
        from sqlalchemy import Column, Float, String, Table

        key = Column("key", String(CLAIM_CHARACTERS), primary_key=True)
        return Table("claims", self._turns.metadata, key, Column("at", Float, nullable=False, index=True))

    @cached_property
    def _engine(self) -> Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.exc import SQLAlchemyError

        local = self.url.startswith("sqlite")
        try:
            engine = create_engine(self.url, connect_args={"timeout": BUSY_SECONDS} if local else {})
            if local:
                event.listen(engine, "connect", _share)
            _create(self._claims, engine)  # and the other table of its metadata
        except (SQLAlchemyError, ImportError) as error:
            raise ThreadError(f"cannot open the threads at {_shown(self.url)}: {_reason(error)}.") from error
        return engine

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        from sqlalchemy.exc import IntegrityError, SQLAlchemyError

        engine = self._engine
        try:
            with engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise ThreadError(f"cannot use the threads at {_shown(self.url)}: {_reason(error)}.") from error

    _reading = _writing


def title_of(text: str) -> str:
    """The beginning of a question, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARACTERS else line[: TITLE_CHARACTERS - 1] + "…"


def _create(table: Table, engine: Engine) -> None:
    """Make the table where it is missing; another process may make it in the same moment."""
    from sqlalchemy.exc import DBAPIError

    try:
        table.metadata.create_all(engine)
    except DBAPIError:
        table.metadata.create_all(engine)


def _share(connection: Any, _: object) -> None:
    """Several processes on one file: readers beside one writer."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _turn(kept: str | None) -> Turn | None:
    import msgspec

    try:
        return msgspec.json.decode(kept, type=Turn) if kept else None
    except msgspec.ValidationError:  # written by another version
        return None


def _shown(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "that address"


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0].rstrip(".")
