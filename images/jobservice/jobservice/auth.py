"""Who asks: HTTP Basic with user and password or, tried first, a token as the user name."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections import deque
from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar

from flask import Blueprint, abort, current_app, g, request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import Connection, Row, Select, bindparam, select
from sqlalchemy.exc import IntegrityError
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized
from werkzeug.security import check_password_hash, generate_password_hash

from .database import reading
from .schema import users

TOKEN_SECONDS = 600
BY_NUMBER, BY_NAME = (select(users).where(column == bindparam("key")) for column in (users.c.id, users.c.username))

# Digests of right passwords, with their hashes.
PROCESS_KEY = secrets.token_bytes(32)
_right: deque[bytes] = deque(maxlen=100)

blueprint = Blueprint("auth", __name__, url_prefix="/rest_api")
View = TypeVar("View", bound=Callable[..., Any])


def token_serializer(key: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(key, salt="token", signer_kwargs={"digest_method": hashlib.sha512})


def login_required(view: View) -> View:
    """Answer 401 unless the request says who asks; the view finds the user's row in g.user."""

    @wraps(view)
    def checked(*args: Any, **kwargs: Any) -> Any:
        g.user = _authenticate()
        if g.user is None:
            challenge = WWWAuthenticate("basic", {"realm": "Authentication Required"})
            raise Unauthorized("Unauthorized access", www_authenticate=challenge)
        return view(*args, **kwargs)

    return checked  # type: ignore[return-value]


def admin_required(view: View) -> View:
    """As login_required, and 403 for anybody but the administrator."""

    @wraps(view)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not g.user.is_admin:
            abort(403, "Only the administrator may do this")
        return view(*args, **kwargs)

    return login_required(checked)  # type: ignore[return-value]


def _authenticate() -> Row[Any] | None:
    given = request.authorization
    if given is None or given.type != "basic" or not given.username:
        return None
    try:
        user_id = current_app.extensions["tokens"].loads(given.username, max_age=TOKEN_SECONDS)["id"]
        return _find(BY_NUMBER, user_id)
    except BadSignature:
        return _login(given.username, given.password or "")


def _login(username: str, password: str) -> Row[Any] | None:
    guesses, address = current_app.extensions["guesses"], request.remote_addr or ""
    if seconds := guesses.wait(username, address):
        raise TooManyRequests("Too many wrong passwords, try again later", retry_after=math.ceil(seconds))
    user = _find(BY_NAME, username)
    matches = _is_right(user.password_hash if user else _nobodys_hash(), password) and user is not None
    guesses.note(username, address, password, matches)
    return user if matches else None


def _is_right(password_hash: str, password: str) -> bool:
    """As check_password_hash, which takes a tenth of a second on purpose: too long for each of a thousand workers.

    So right passwords are remembered while the process lives, keyed by a secret of its own; wrong ones take that time.
    """
    seen = hmac.digest(PROCESS_KEY, f"{password_hash} {password}".encode(errors="surrogatepass"), "sha256")
    if seen not in _right:
        if not check_password_hash(password_hash, password):
            return False
        _right.append(seen)
    return True


@cache
def _nobodys_hash() -> str:
    """What an unknown user's password is checked against, so that the answer takes as long as for a known one."""
    return generate_password_hash(secrets.token_hex())


def _find(query: Select[Any], key: int | str) -> Row[Any] | None:
    with reading() as connection:
        return connection.execute(query, {"key": key}).one_or_none()


def set_administrator(connection: Connection, username: str, password: str) -> None:
    """Make sure that there is this administrator with this password, so that the operator can change it."""
    user = connection.execute(BY_NAME, {"key": username}).one_or_none()
    if user is None:
        add_user(connection, username, password, is_admin=True)
    elif not (user.is_admin and check_password_hash(user.password_hash, password)):
        changed = {"password_hash": generate_password_hash(password), "is_admin": True}
        connection.execute(users.update().where(users.c.id == user.id).values(changed))


def add_user(connection: Connection, username: str, password: str, *, is_admin: bool = False) -> int | None:
    """Number of the new user, None if the name is taken."""
    row = {"username": username, "password_hash": generate_password_hash(password), "is_admin": is_admin}
    try:
        with connection.begin_nested():
            return int(connection.execute(users.insert().values(row).returning(users.c.id)).scalar_one())
    except IntegrityError:
        return None


@blueprint.get("/token")
@login_required
def get_token() -> dict[str, Any]:
    return {"token": current_app.extensions["tokens"].dumps({"id": g.user.id}), "duration": TOKEN_SECONDS}
