"""The check of pages in a browser finds what it is there for, and the report of a run passes it."""

import pytest
from browser import check_page

from vision.analysis import page

_GOOD = f"<h1>A page</h1><p>{'some words ' * 40}</p>"


@pytest.fixture
def written(tmp_path):
    def write(body):
        return page.save(tmp_path / "page.html", page.document("A page", body))

    return write


def test_a_plain_page_passes(written, tmp_path):
    check_page(written(_GOOD), tmp_path)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("<script>undefined_function()</script>", "CONSOLE"),
        ("<img src='https://example.org/a.png'>", "from outside"),
        ("<div style='width: 900px'>wide</div>", "390 pixels wide"),
        ("<img src='data:image/png;base64,AAAA'>", "broken"),
    ],
)
@pytest.mark.slow
def test_a_fault_is_found(written, tmp_path, fault, told):
    with pytest.raises(AssertionError, match=told):
        check_page(written(_GOOD + fault), tmp_path)
