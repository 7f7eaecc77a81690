from __future__ import annotations

import csv
import io
import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero_core.errors import FetchError, InvalidValue
from aero_core.models import Artifact, Rule
from aero_core.testing.fingerprints import FingerprintContract
from aero_core.testing.storing import no_progress
from aero_local import LocalPlugin, fingerprints

Pairs = tuple[tuple[bytes, bytes], ...]


class TestBytes(FingerprintContract):
    make_plugin = LocalPlugin
    rule = Rule("bytes")
    different = ((b"", b"\n"), (b"a\n", b"a\r\n"))

    def write_large(self, path: Path, records: int) -> None:
        path.write_bytes(b"x" * 200 * records)


class TestJson(FingerprintContract):
    make_plugin = LocalPlugin
    rule = Rule("json", {"ignore": ["/meta/generated_at", "/items/*/seen", "/a~1b/~0"]})
    same = (
        (b'{"a":1,"b":2}', b'{"b": 2.0,\n "a": 1e0}'),
        (b'{"meta":{"generated_at":"monday"},"x":1}', b'{"x":1,"meta":{"generated_at":[1,{}]}}'),
        (b'{"items":[{"seen":1,"v":[]}]}', b'{"items":[{"v":[],"seen":{"a":[2]}}]}'),
        (b'{"a/b":{"~":1}}', b'{"a/b":{"~":2}}'),
        (b'"\\u00e4"', '"ä"'.encode()),
        (b"\xef\xbb\xbf[1]", b" [1] "),
        (b"[100, -0.0, 0.50]", b"[1e2, 0, 5E-1]"),
    )
    different = (
        (b"[1,2]", b"[2,1]"),
        (b"[1]", b'["1"]'),
        (b"[1]", b"1"),
        (b"[]", b"{}"),
        (b"[[],[]]", b"[[[]]]"),
        (b"[null]", b"[false]"),
        (b'{"a":1,"b":2}', b'{"a":2,"b":1}'),
        (b'{"a":"b"}', b'["a","b"]'),
        (b'{"meta":{"by":"monday"}}', b'{"meta":{"by":"tuesday"}}'),
        (b'{"items":{"*":{"v":1}}}', b'{"items":{"*":{"v":2}}}'),
        (b"[10000000000000000000000000001]", b"[10000000000000000000000000002]"),
        (b"[0.1000000000000000000000000000000001]", b"[0.1]"),
        (b"[1,-1]", b"[1,1]"),
    )
    unreadable = (b"", b"{", b"[1,2", b'{"a":\xff}', b"[1] 2", b"[NaN]", b"[" + b"9" * 5000 + b"]")

    def write_large(self, path: Path, records: int) -> None:
        item = {"name": "n" * 50, "values": [1.5, None, True], "seen": "now", "more": {"k": "v"}}
        with path.open("w") as file:
            file.write('{"items": [')
            file.writelines(json.dumps({**item, "id": n}) + "," for n in range(records - 1))
            file.write(json.dumps(item) + "]}")


class TestJsonObject(TestJson):
    """One object with very many keys is no larger in memory than a small one."""

    def write_large(self, path: Path, records: int) -> None:
        with path.open("w") as file:
            file.write("{")
            file.writelines(f'"key{n}": "{"v" * 100}",' for n in range(records))
            file.write('"last": 0}')


class TestCsv(FingerprintContract):
    make_plugin = LocalPlugin
    rule = Rule("csv", {"ignore": ["generated at", "rank"]})
    same: ClassVar[Pairs] = (
        (b"a,b\n1,2\n", b'"a","b"\r\n"1","2"'),
        (b"a,generated at,b\n1,monday,2\n", b"a,generated at,b\n1,tuesday,2\n"),
        (b"rank,a\n1,x\n", b"rank,a\n9,x\n"),
        (b"a,b\n1,2\n", b"\xef\xbb\xbfa,b\n\n1,2\n\n"),
        (b"a;b\n1,5;2\n", b'a,b\n"1,5",2\n'),
        (b'a,b\n"x\r\ny",2\n', b'a,b\n"x\ny",2\n'),
    )
    different: ClassVar[Pairs] = (
        (b"a,b\n1,2\n3,4\n", b"a,b\n3,4\n1,2\n"),
        (b"a,b\n1,2\n", b"b,a\n1,2\n"),
        (b"a,b\n1,2\n", b"a,b\n12,\n"),
        (b"a,b\n1,2\n", b"a,b\n1,2,3\n"),
        (b'a\n"1,2"\n', b"a\n1,2\n"),
        (b"a,rank\n1,2\n", b"a,rank\n1,2,3\n"),
        (b"", b"a\n"),
    )
    unreadable = (b"a,b\n1,\xff\n",)

    def write_large(self, path: Path, records: int) -> None:
        rows = (f"{n},now,{'x' * 100},{n / 7}\n" for n in range(records))
        with path.open("w") as file:
            file.write("id,generated at,text,value\n")
            file.writelines(rows)


class TestCsvAnyOrder(TestCsv):
    rule = Rule("csv", {"ignore": ["generated at", "rank"], "any_order": True})
    same = (
        *TestCsv.same,
        (b"a,b\n1,2\n3,4\n", b"a,b\n3,4\n1,2\n"),
        (b"rank,a\n1,x\n2,y\n", b"rank,a\n1,y\n2,x\n"),
    )
    different = (
        (b"a\n1\n1\n", b"a\n1\n"),
        (b"a\n1\n1\n2\n", b"a\n1\n2\n2\n"),
        (b"a,b\n1,2\n3,4\n", b"a,b\n1,4\n3,2\n"),
        (b"a\nb\n", b"b\na\n"),
    )


class TestText(FingerprintContract):
    make_plugin = LocalPlugin
    rule = Rule("text", {"ignore": ["^# generated", r"\bdraft$"]})
    same = (
        (b"a\nb\n", b"a\r\nb"),
        (b"# generated monday\na\n", b"# generated tuesday\na\n"),
        (b"# generated monday\na\n", b"a\n"),
        (b"a\nthis is a draft\n", b"a\nold draft\n"),
        (b"\xef\xbb\xbfa\n", b"a"),
        (b"a\nold draft\n", b"a\nold draft"),
        (b"a\nold draft", b"a"),
        (b"old draft", b""),
    )
    different = (
        (b"a\nb\n", b"b\na\n"),
        (b"a\n", b"a\n\n"),
        (b"a\n\nb\n", b"a\nb\n"),
        (b"a\n", b"a \n"),
        (b"x # generated 1\n", b"x # generated 2\n"),
        (b"", b"\n"),
    )
    unreadable = (b"a\n\xff\n",)

    def write_large(self, path: Path, records: int) -> None:
        with path.open("w") as file:
            file.writelines(f"{n} {'x' * 120}\n# generated {n}\n" for n in range(records))


@pytest.fixture
def content(tmp_path: Path) -> Any:
    return lambda data, rule, encoding=None: _digest(tmp_path / "f", data, rule, encoding)


def _digest(path: Path, data: bytes | str, rule: Rule, encoding: str | None = None) -> str:
    path.write_bytes(data if isinstance(data, bytes) else data.encode(encoding or "utf-8"))
    digest = fingerprints.fingerprint(Artifact(str(path), "sha256:ab", 1, encoding=encoding), rule, no_progress)
    assert digest is not None
    return digest


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("rule", ["json", "csv", "text"])
def test_charset_does_not_count(content: Any, rule: str, encoding: str) -> None:
    text = '["ä", "ö"]\n' * (1 if rule == "json" else 3)
    assert content(text, Rule(rule), encoding) == content(text, Rule(rule))


@pytest.mark.parametrize("charset", ["x-klingon", "hex"])
@pytest.mark.parametrize("rule", ["json", "csv", "text"])
def test_unknown_charset_is_named(content: Any, rule: str, charset: str) -> None:
    with pytest.raises(FetchError, match=f"'{charset}'"):
        content(b"1", Rule(rule), charset)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("rule", ["json", "csv", "text"])
def test_each_block_is_told(tmp_path: Path, rule: str, encoding: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"[" + b"1,\n" * 100_000 + b"1]")
    size = path.stat().st_size
    told: list[tuple[int, int | None]] = []
    artifact = Artifact(str(path), "sha256:0", size, encoding=encoding)
    fingerprints.fingerprint(artifact, Rule(rule), lambda *progress: told.append(progress))
    assert len(told) > 3
    assert told[-1] == (size, size)


@pytest.mark.parametrize(
    ("rule", "data", "where"),
    [
        ("json", b"[1,\n2,\n  nul]", "line 3, byte 6"),
        ("json", b'{"a":1,\n"b" 2}', "line 2, byte 6"),
        ("json", b"[" + b"1,\n" * 300_000 + b"x]", "line 300001, byte 1"),
        ("json", b"\xef\xbb\xbf[1] x", "line 1, byte 5"),
        ("json", b"[1,\n[2", "line 2, byte 2"),
        ("csv", b"a\n1\n2\n\xff\n", r"line 4 \(byte 6\)"),
        ("text", b"a\n" * 2_000_000 + b"\xff", r"line 2000001 \(byte 4000000\)"),
        ("text", "ä".encode() * (1 << 19) + b"a\xc3", r"line 1 \(byte 1048577\)"),
        ("csv", b'a,b\n1,"' + b"x\n" * (1 << 24), "a quote left open"),
        ("csv", b"a\n" + b"x" * (1 << 24) + b"x", "characters in line 2"),
        ("csv", b'a,b\n1,2\n1,"' + (b"x" * 2000 + b'\n",1,"') * 9000, "row of more than 16777216 .* begins in line 3"),
        ("json", b'["' + b"x " * (1 << 24) + b'"]', "string, number or gap of more than 16 MiB, near byte"),
        ("json", b'["' + b"\\n" * (1 << 24), "string, number or gap of more than 16 MiB"),
        ("json", b'{"' + b"x" * (1 << 25) + b'":1}', "string, number or gap of more than 16 MiB"),
        ("json", b"[0." + b"1" * (1 << 25) + b"]", "string, number or gap of more than 16 MiB"),
        ("json", b"[" + b"1" * 5_000_000 + b"]", r"a number too long to be read in line 1, after byte \d"),
        ("json", b'["' + b"x" * 5_000_000, "in line 1, byte 5000002"),
    ],
)
def test_error_says_where(content: Any, rule: str, data: bytes, where: str) -> None:
    with pytest.raises(FetchError, match=where) as caught:
        content(data, Rule(rule))
    assert not caught.value.retryable


def test_a_long_string_is_read(content: Any) -> None:
    """In a time that grows with it: its square would be minutes."""
    escaped = b"\\n" * (1 << 22)
    one = content(b'{"a":"' + escaped + b'","b":1}', Rule("json"))
    assert one == content(b'{"b":1,"a":"' + escaped + b'"}', Rule("json"))
    assert one != content(b'{"b":1,"a":"' + escaped + b'\\n"}', Rule("json"))


def test_a_row_of_many_lines_is_one_row(content: Any) -> None:
    def rows(end: bytes) -> bytes:
        return end.join([b"a,b", *[b'1,"' + (b"x" * 2000 + b"\n") * 1000 + b'"'] * 9, b""])

    assert content(rows(b"\n"), Rule("csv")) == content(rows(b"\n\n"), Rule("csv"))


@pytest.mark.parametrize(
    ("rule", "options", "words"),
    [
        ("bytes", {"ignore": "x"}, "no option 'ignore'"),
        ("json", {"ignore": "a/b"}, "'a/b': expected a JSON pointer"),
        ("json", {"ignore": ["/ok", ""]}, "'': expected a JSON pointer"),
        ("json", {"ignore": "/a~2"}, "'/a~2'"),
        ("json", {"ignore": 5}, "ignore is 5"),
        ("csv", {"ignore": [1]}, r"ignore is \[1\]"),
        ("csv", {"any_order": "yes"}, "any_order is 'yes': expected true or false"),
        ("csv", {"delimiter": "::"}, "delimiter is '::': expected one character"),
        ("text", {"ignore": "("}, r"ignore is '\(': expected a regular expression"),
        ("text", {"any_order": True}, "no option 'any_order'"),
    ],
)
def test_wrong_option_is_named(content: Any, rule: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        content(b"{}", Rule(rule, options))


def test_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="cannot be read"):
        fingerprints.fingerprint(Artifact(str(tmp_path / "no"), "sha256:0", 1), Rule("text"), no_progress)


def test_given_delimiter_is_used(content: Any) -> None:
    one = content(b"a:b,c\n1:2,3\n", Rule("csv", {"delimiter": ":"}))
    assert one == content(b'a|"b,c"\n1|"2,3"\n', Rule("csv"))


def test_very_long_line_is_read_in_pieces(content: Any) -> None:
    rule = Rule("text", {"ignore": "x"})
    line = b"x" * ((1 << 24) + 5)
    assert content(line, rule) == content(line + b"\n", rule) != content(b"", rule)


def test_deep_json_is_read(content: Any) -> None:
    depth = 20_000
    assert content(b"[" * depth + b"]" * depth, Rule("json"))


def test_json_without_bottom_is_refused(content: Any) -> None:
    with pytest.raises(FetchError, match=r"nested more than 100000 deep.*rule='bytes'"):
        content(b"[" * 200_000, Rule("json"))


LARGE = {f"member{n}": [n, str(n) * 9] for n in range(2_000)}


def test_order_of_keys_does_not_count_however_large_a_document_is(content: Any) -> None:
    members = {"one": 1, "large": LARGE, "list": [[0] * 20_000, {"large": [{"large": LARGE}]}]}
    digests: set[str] = set()
    for order in itertools.permutations(members):
        moved = shuffled({name: members[name] for name in order}, seed=len(digests))
        digests.add(content(json.dumps(moved), Rule("json")))
        digests.add(content(json.dumps(moved, indent=2), Rule("json")))
    assert len(digests) == 1


@pytest.mark.parametrize("members", range(1_300, 1_420, 7))
def test_no_size_makes_order_count(content: Any, members: int) -> None:
    """Texts on both sides of the length up to which a value stands for itself."""
    some = {f"n{n}": n for n in range(members)}
    one, other = ({"z": 0, "some": [x], "a": 0} for x in (some, dict(reversed(some.items()))))
    assert content(json.dumps(one), Rule("json")) == content(json.dumps(shuffled(other, 1)), Rule("json"))


def test_every_place_in_a_large_document_counts(content: Any) -> None:
    base = [LARGE, [[0] * 20_000], "x" * 70_000]
    others = [
        [LARGE, [[0] * 19_999], "x" * 70_000],
        [LARGE, [[0] * 19_999 + [1]], "x" * 70_000],
        [LARGE, [[0] * 20_000], "x" * 69_999 + "y"],
        [{**LARGE, "member7": [7, "8" * 9]}, [[0] * 20_000], "x" * 70_000],
        [{**LARGE, "member7": LARGE["member8"], "member8": LARGE["member7"]}, [[0] * 20_000], "x" * 70_000],
        [[[0] * 20_000], LARGE, "x" * 70_000],
        [list(LARGE.values()), [[0] * 20_000], "x" * 70_000],
        [[LARGE], [[0] * 20_000], "x" * 70_000],
    ]
    digests = [content(json.dumps(document), Rule("json")) for document in (base, *others)]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(
    ("spellings", "others"),
    [
        (["100000000000000000000", "1e20", "1.0E+20", "100000000000000000000.00"], ["100000000000000000001"]),
        (["99999999999999999999", "9999999999999999999.9e1"], ["99999999999999999998"]),
        (["1234567890123456789012340", "1.23456789012345678901234e24"], ["1234567890123456789012341"]),
        (["-5", "-5.0", "-50e-1"], ["5"]),
        (["0", "-0", "0.0", "-0e9", "0e-9"], ["1"]),
        (["0.0000001", "1e-7", "0.10e-6"], ["0.0000002"]),
        (["1e4000", "10e3999", "1" + "0" * 4000], ["1e4001"]),
    ],
)
def test_a_number_is_one_however_it_is_spelled(content: Any, spellings: list[str], others: list[str]) -> None:
    digest, *same = (content(f"[{spelling}]", Rule("json")) for spelling in spellings)
    assert same == [digest] * len(same)
    assert digest not in [content(f"[{other}]", Rule("json")) for other in others]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab*~/é", max_size=2), inner, max_size=4),
    max_leaves=12,
)


def plain(value: Any) -> Any:
    """A hashable value that is equal for equal documents: the whole rule, in memory."""
    if isinstance(value, dict):
        return ("o", frozenset((key, plain(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("a", tuple(plain(item) for item in value))
    return ("b", value) if isinstance(value, bool) else ("v", type(value) is str, value)


def shuffled(value: Any, seed: int) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item, seed)) for key, item in value.items()]
        random.Random(seed).shuffle(items)
        return dict(items)
    return [shuffled(item, seed) for item in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None)
@given(values, st.integers(0, 9))
def test_json_ignores_order_of_keys_and_layout(tmp_path_factory: Any, value: Any, seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "json"
    spaced = json.dumps(shuffled(value, seed), indent=1, ensure_ascii=False)
    assert _digest(path, json.dumps(value), Rule("json")) == _digest(path, spaced, Rule("json"))


@settings(max_examples=200, deadline=None)
@given(values, values, st.sampled_from([0, 0, 16_370, 20_000]))
def test_json_is_equal_just_when_the_values_are(tmp_path_factory: Any, one: Any, two: Any, beside: int) -> None:
    path = tmp_path_factory.getbasetemp() / "json"
    documents = ({"value": value, "beside": "x" * beside} for value in (one, two))
    first, second = (_digest(path, json.dumps(document), Rule("json")) for document in documents)
    assert (first == second) == (plain(one) == plain(two))


tables = st.lists(st.lists(st.text("a1,;\"' \né", max_size=3), min_size=2, max_size=2), min_size=1, max_size=5)


def written(header: list[str], rows: list[list[str]], quoting: Any, end: str) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=quoting, lineterminator=end).writerows([header, *rows])
    return file.getvalue()


def plain_rows(rows: list[list[str]]) -> list[tuple[str, ...]]:
    return [tuple(row) for row in rows]


@settings(max_examples=200, deadline=None)
@given(tables, tables, st.randoms(use_true_random=False))
def test_csv_is_equal_just_when_the_rows_are(
    tmp_path_factory: Any, one: list[list[str]], two: list[list[str]], source: random.Random
) -> None:
    path = tmp_path_factory.getbasetemp() / "csv"
    source.shuffle(moved := list(one))
    for rule, form in (
        (Rule("csv"), list),
        (Rule("csv", {"any_order": True}), Counter),
    ):
        first = _digest(path, written(["h", "i"], one, csv.QUOTE_MINIMAL, "\n"), rule)
        for rows in (one, two, moved):
            other = _digest(path, written(["h", "i"], rows, csv.QUOTE_ALL, "\r\n"), rule)
            assert (first == other) == (form(plain_rows(one)) == form(plain_rows(rows)))
