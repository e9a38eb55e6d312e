"""Notifications: which changes of a status cause one, and what a terminal and a webhook receive."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dpo_tui.runs.folder import RunFolder
from dpo_tui.views.group_row import IMPROVEMENT, RunGroup
from dpo_tui.views.notifications import Notification, StatusChangeDetector, desktop_sequence, post
from dpo_tui.views.run_list import RunSummary


def glance(status: str, reason: str = "") -> RunSummary:
    return RunSummary(
        RunFolder(Path("/x/20261101-101010-aaaa")), {"status": status, "name": "a\x1b[31mb", "reason": reason}
    )


def test_a_run_that_ends_while_the_app_looks_is_told_once():
    detector = StatusChangeDetector()
    assert detector.changes([glance("running")]) == []
    found = detector.changes([glance("failed", "out of memory\nmore")])
    assert [notice.text for notice in found] == ["ab is failed: out of memory"]
    assert detector.changes([glance("failed")]) == []
    assert StatusChangeDetector().changes([glance("done")]) == [], "a run that was over before is no news"


@pytest.mark.parametrize("status", ["done", "failed", "stalled", "lost"])
def test_every_way_in_which_a_run_ends_by_itself_is_told(status):
    detector = StatusChangeDetector()
    detector.changes([glance("running")])
    assert [notice.status for notice in detector.changes([glance(status)])] == [status]


def test_a_run_that_the_person_stopped_is_not_told():
    detector = StatusChangeDetector()
    detector.changes([glance("running")])
    assert detector.changes([glance("stopped")]) == []


def test_the_end_of_an_improvement_and_of_a_sweep_is_told_after_that_of_their_runs():
    detector = StatusChangeDetector()

    def groups(status: str, note: str) -> list[RunGroup]:
        return [
            RunGroup("i", "polite", IMPROVEMENT, status, note, ()),
            RunGroup("s", "rates", "sweep", status, note, ()),
        ]

    detector.changes([glance("running")], groups("running", "2 of 3"))
    found = detector.changes([glance("done")], groups("done", "3 done\nmore"))
    assert [(one.run, one.kind, one.text) for one in found] == [
        ("20261101-101010-aaaa", "run", "ab is done"),
        ("i", "improvement", "improvement polite is done: 3 done"),
        ("s", "sweep", "sweep rates is done: 3 done"),
    ]
    assert detector.changes([glance("done")], groups("done", "3 done")) == []


def test_a_desktop_notice_cannot_smuggle_escape_sequences():
    sequence = desktop_sequence(Notification("id", "evil\x07\x1b]0;x", "done"))
    assert sequence.count("\x1b") == 1
    assert sequence.count("\x07") == 1


def test_a_webhook_receives_what_happened():
    received: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    post(f"http://127.0.0.1:{server.server_port}/", Notification("id", "demo", "done"))
    server.server_close()
    assert received[0]["run"] == "id"
    assert received[0]["kind"] == "run"
    assert received[0]["status"] == "done"
    with pytest.raises(ValueError, match="no http"):
        post("file:///etc/passwd", Notification("id", "demo", "done"))


def test_a_webhook_does_not_follow_a_redirect():
    """What a run is called and why it failed is nobody else's business."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            paths.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/moved/SECRET")
            self.end_headers()

        def do_GET(self):
            paths.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(OSError, match="it redirects elsewhere") as refused:
        post(f"http://127.0.0.1:{server.server_port}/SECRET", Notification("id", "demo", "done"))
    server.shutdown()
    server.server_close()
    assert paths == ["/SECRET"]
    assert "SECRET" not in str(refused.value)  # whoever knows the path of a webhook can post there
