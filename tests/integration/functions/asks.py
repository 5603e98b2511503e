"""Asks localhost for secrets: ASK_AT_INIT in its first line, then what the event names. Writes `lines` lines.

`raw` are whole requests, each sent on a connection of its own, all at once; `keys` so many names that are asked for one
after the other on one connection, below the path `below`.
"""

import http.client
import os
import socket
import threading
import urllib.error
import urllib.request

PORT = os.environ.get("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", "2773")


def ask(target, token=None):
    request = urllib.request.Request(f"http://localhost:{PORT}{target}")
    if token is not None:
        request.add_header("X-Aws-Parameters-Secrets-Token", token)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def send(data, statuses, index):
    with socket.create_connection(("127.0.0.1", int(PORT)), timeout=20) as connection:
        connection.sendall(data.encode("latin-1"))
        answer = connection.recv(65536)
        statuses[index] = int(answer.split(b" ")[1]) if answer else 0


def send_all(requests):
    statuses = [None] * len(requests)
    threads = [threading.Thread(target=send, args=(data, statuses, i)) for i, data in enumerate(requests)]
    for thread in threads:
        thread.start()
    return threads, statuses


def ask_many(count, below, token):
    statuses = {}
    connection = None
    for number in range(count):
        if connection is None:
            connection = http.client.HTTPConnection("localhost", int(PORT), timeout=20)
        connection.request("GET", f"/?name={below}/{number}", headers={"X-Aws-Parameters-Secrets-Token": token})
        answer = connection.getresponse()
        answer.read()
        if answer.will_close:
            connection.close()
            connection = None
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
    return statuses


at_init = ask(os.environ["ASK_AT_INIT"]) if "ASK_AT_INIT" in os.environ else None


def handler(event, context):
    token = os.environ.get(event["token"]) if "token" in event else None
    threads, statuses = send_all(event.get("raw", []))
    many = ask_many(event.get("keys", 0), event.get("below", ""), token)
    for number in range(event.get("first", 0), event.get("first", 0) + event.get("lines", 0)):
        print(f"line {number:06d}")
    asked = [ask(target, token) for target in event.get("targets", [])]
    for thread in threads:
        thread.join()
    return {"at_init": at_init, "asked": asked, "raw": statuses, "many": many}
