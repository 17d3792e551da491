"""What Airflow finds of Evergreen in its folder of plugins."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin
from evergreen import pool


class Page:
    """The page as an ASGI app that is made by its first request: every process of Airflow reads this file, few serve it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from evergreen.page.app import app

        await app(scope, receive, send)


class EvergreenPlugin(AirflowPlugin):
    """The pool `gpu`, and the page "Evergreen" in the navigation."""

    name = "evergreen"
    listeners = [pool]  # noqa: RUF012 - as Airflow declares it
    fastapi_apps = [{"app": Page(), "url_prefix": "/evergreen", "name": "Evergreen"}]  # noqa: RUF012
    # With a url_route it is shown inside of Airflow. Without one 3.3.2 draws a button in the navigation that does nothing.
    external_views = [  # noqa: RUF012
        {
            "name": "Evergreen",
            "href": "evergreen/",
            "url_route": "evergreen",
            "destination": "nav",
            "nav_top_level": True,
            "icon": "evergreen/icon.svg",
        }
    ]
