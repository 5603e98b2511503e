"""Which route of an HTTP API a request takes."""

import pytest

from local_lambda.errors import InvalidSetting
from local_lambda.rules.http_routes import chosen, parse

ROUTES = [
    parse(key)
    for key in (
        "$default", "ANY /{proxy+}", "GET /orders", "ANY /orders/{id}", "GET /orders/{id}", "GET /orders/new",
        "GET /orders/{id}/items/{item}", "POST /",
    )
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "key", "parameters"),
    [
        ("GET", "/orders", "GET /orders", {}),
        ("GET", "/orders/", "GET /orders", {}),
        ("GET", "/orders/7", "GET /orders/{id}", {"id": "7"}),
        ("PUT", "/orders/7", "ANY /orders/{id}", {"id": "7"}),
        ("GET", "/orders/new", "GET /orders/new", {}),
        ("GET", "/orders/7/items/8", "GET /orders/{id}/items/{item}", {"id": "7", "item": "8"}),
        ("DELETE", "/orders/7/items/8", "ANY /{proxy+}", {"proxy": "orders/7/items/8"}),
        ("POST", "/", "POST /", {}),
        ("GET", "/", "$default", {}),
    ],
)
def test_the_most_specific_route_wins(method: str, path: str, key: str, parameters: dict[str, str]) -> None:
    found = chosen(ROUTES, method, path)
    assert found is not None
    assert (found[0].key, dict(found[1])) == (key, parameters)


def test_there_may_be_none() -> None:
    assert chosen([parse("GET /a.b")], "GET", "/aXb") is None
    assert chosen([parse("GET /a")], "POST", "/a") is None


@pytest.mark.parametrize("key", ["", "/orders", "FETCH /a", "GET orders", "GET /{a", "GET /{a+}/b/{c}", "GET /{a b}"])
def test_what_is_no_route(key: str) -> None:
    with pytest.raises(InvalidSetting, match="The route "):
        parse(key)
