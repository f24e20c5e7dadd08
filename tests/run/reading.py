"""How the tests of reports read a page."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input"}
LOADING = {"src", "srcset", "poster", "data", "action", "formaction", "background"}  # attributes that browsers follow


class Page(HTMLParser):
    """Collects ids, references and scripts, and fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded, self.open, self.tags, self.scripts = [], [], [], [], set(), []
        self.policy = ""
        self.running = False
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        followed = "href" in given and tag != "image"
        self.links += [given["href"]] if followed else []
        self.loaded += [value for name, value in attrs if name in LOADING or (name == "href" and not followed)]
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        self.running = tag == "script" and "type" not in given
        if self.running:
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_data(self, data):
        if self.running:
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        self.running = False
        assert self.open.pop() == tag
