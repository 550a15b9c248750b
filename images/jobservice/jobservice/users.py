"""User administration, by the administrator only."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, request
from sqlalchemy import delete, select

from .auth import add_user, admin_required
from .database import reading, writing
from .schema import users
from .web import clean_text, json_object, refuse

MAX_USER_NAME = 32

blueprint = Blueprint("users", __name__, url_prefix="/rest_api/admin/users")


@blueprint.post("")
@admin_required
def post_user() -> tuple[dict[str, Any], int, dict[str, str]]:
    body = json_object()
    username = clean_text(body.get("username"), "username", MAX_USER_NAME)
    password = clean_text(body.get("password"), "password", 1024)
    if not username or not password:
        refuse("Missing username or password")
    with writing() as connection:
        user_id = add_user(connection, username, password)
    if user_id is None:
        refuse("The user exists already")
    return {"username": username, "userid": user_id}, 201, {"Location": f"{request.base_url}/{user_id}"}


@blueprint.get("/<int:user_id>")
@admin_required
def get_user(user_id: int) -> dict[str, str]:
    with reading() as connection:
        username = connection.scalar(select(users.c.username).where(users.c.id == user_id))
    if username is None:
        abort(404, "There is no such user")
    return {"username": username}


@blueprint.delete("/<int:user_id>")
@admin_required
def delete_user(user_id: int) -> Response:
    with writing() as connection:
        if not connection.execute(delete(users).where(users.c.id == user_id)).rowcount:
            abort(404, "There is no such user")
    return Response(status=204)
