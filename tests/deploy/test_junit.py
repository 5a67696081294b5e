"""JUnit files that any reader of XML takes."""

from xml.etree import ElementTree

from deploy.junit import Case, junit


def test_cases_keep_their_outcome_and_time() -> None:
    cases = [Case("vit", "int8", said="fine", seconds=1.25), Case("vit", "fp16", "a < b & c", seconds=0.5)]
    suite = ElementTree.fromstring(junit("builds", cases))[0]
    assert suite.attrib == {"name": "builds", "tests": "2", "failures": "1", "time": "1.750"}
    good, bad = suite
    assert good.attrib == {"classname": "vit", "name": "int8", "time": "1.250"}
    assert good.findtext("system-out") == "fine"
    (failure,) = bad
    assert failure.get("message") == "a < b & c"


def test_what_a_library_prints_does_not_break_the_file() -> None:
    (case,) = ElementTree.fromstring(junit("s", [Case("g", "n", "\x1b[31mred\x00\ud800")])).iter("testcase")
    assert case[0].get("message") == "\ufffd[31mred\ufffd\ufffd"


def test_times_are_left_out_where_they_are_not_known() -> None:
    assert "time" not in ElementTree.fromstring(junit("s", [Case("g", "n")]))[0].attrib
