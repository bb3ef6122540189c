"""A report page, taken apart."""

from html.parser import HTMLParser


class Reader(HTMLParser):
    """Takes a page apart: its tags with their attributes, its sections' headings, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def section(self, title: str) -> str:
        return self.text.partition(title)[2]
