"""Sources are read as what they mean: tables, lists and mark-up, and nothing else changes."""

import json
from itertools import pairwise

import pytest
from conftest import make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from tables_and_lists import CASES, sources

import modernbert_nli.passages
from modernbert_nli.embedded import CHECKPOINT
from modernbert_nli.passages import Block, Reader, speaking
from modernbert_nli.published_heads import load_modernbert_nli
from modernbert_nli.reading import Names, statements
from modernbert_nli.sentences import split_sentences

TABLE = """| Office | Mon–Fri | Sun |
|--------|:-------:|----:|
| **Harbour** | 07:00–18:00 | closed |
| Airport | 06:00–22:00 | 08:00–20:00 |"""
CELLS = [
    "The Mon–Fri of Harbour is 07:00–18:00.",
    "The Sun of Harbour is closed.",
    "The Mon–Fri of Airport is 06:00–22:00.",
    "The Sun of Airport is 08:00–20:00.",
]
PRICES = ["The price of tea is 2.", "The price of cake is 3.50.", "The price of soup is 5."]


def read(text: str) -> list[str]:
    return [one.text for one in statements(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TABLE, CELLS),
        (TABLE.replace("\n", "\r\n"), CELLS),
        ("\n".join(line.strip("| ") for line in TABLE.splitlines()), CELLS),
        (TABLE.replace("|--------|:-------:|----:|\n", ""), CELLS),
        (
            "+---+---+\n| A | B |\n+===+===+\n| x | 1 |\n+---+---+\n| y | 2 |\n+---+---+",
            ["The B of x is 1.", "The B of y is 2."],
        ),
        ("item,price\ntea,2\ncake,3.50\nsoup,5", PRICES),
        ("item, price\ntea, 2\ncake, 3.50\nsoup, 5\n", PRICES),
        ("item;price\ntea;2\ncake;3.50\nsoup;5", PRICES),
        ("item\tprice\ntea\t2\ncake\t3.50\nsoup\t5", PRICES),
        ("```csv\nitem,price\ntea,2\ncake,3.50\nsoup,5\n```", PRICES),
        ('item,price\n"tea",2\n"cake","3.50"\nsoup,5', PRICES),
        ("Our menu:\nitem,price\ntea,2\ncake,3.50\nsoup,5\n\nAsk us.", ["Our menu:", *PRICES, "Ask us."]),
        (
            'item,price\n"tea, green",2\ncake,3.50\n',
            ["The price of tea, green is 2.", "The price of cake is 3.50."],
        ),
        (
            "name,role\nAnna,engineer\nBob,designer",
            ["The role of Anna is engineer.", "The role of Bob is designer."],
        ),
        (
            ";2022;2023\nSales;5;6\nRent;1;2",
            [
                "The 2022 of Sales is 5.",
                "The 2023 of Sales is 6.",
                "The 2022 of Rent is 1.",
                "The 2023 of Rent is 2.",
            ],
        ),
        (
            "| Dish | Vegan | Nuts |\n|--|--|--|\n| Soup | ✅ | no |\n| Pesto | ❌ | |",
            [
                "Soup: Vegan.",
                "Soup: no Nuts.",
                "Pesto: no Vegan.",
            ],
        ),
        (
            "| No. | Name | Points |\n|--|--|--|\n| 1 | Anna | 33 |",
            ["The No. of Anna is 1.", "The Points of Anna is 33."],
        ),
        (
            "| City | Year | Rain |\n|-|-|-|\n| Oslo | 2020 | 7 |\n| Oslo | 2021 | 8 |",
            [
                "The Rain of Oslo, 2020 is 7.",
                "The Rain of Oslo, 2021 is 8.",
            ],
        ),
        (
            "<table><tr><th>Day<th>Open<tr><td>Mon<td>9&nbsp;a.m.<tr><td>Tue</td><td><b>10</b></td></tr></table>",
            [
                "The Open of Mon is 9 a.m.",
                "The Open of Tue is 10.",
            ],
        ),
        (
            "<TABLE id='x'><thead><tr><td>A<td>B<td>C</tr></thead><tr><td>x</td><td>1</td><td>2</tr></TABLE>",
            [
                "The B of x is 1.",
                "The C of x is 2.",
            ],
        ),
        (
            "<table><tr><th>Opened</th><td>1932</td></tr><tr><th>Length</th><td>2 km</td></tr></table>",
            [
                "Opened: 1932.",
                "Length: 2 km.",
            ],
        ),
        (
            "<table><tr><th>Day<th>Hall<th>Open<tr><td rowspan=2>Mon<td>A<td>9<tr><td>B<td>10</table>",
            [
                "The Open of Mon, A is 9.",
                "The Open of Mon, B is 10.",
            ],
        ),
        (
            "<table><tr><th>Day<th colspan='2'>Open<tr><td>Mon<td>9<td>10</table>",
            ["The Open of Mon is 9.", "The Open of Mon is 10."],
        ),
    ],
)
def test_tables(text, expected):
    """A cell is read with the names of its row and its column."""
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Included:\n- battery\n- strap\n\nNot included:\n- memory card",
            [
                "Included:",
                "Included battery.",
                "Included strap.",
                "Not included:",
                "Not included memory card.",
            ],
        ),
        (
            "# Camera\n\n## Not included\n\n* memory card\n* lens cap",
            [
                "Camera",
                "Not included",
                "Camera: Not included memory card.",
                "Camera: Not included lens cap.",
            ],
        ),
        (
            "Camera\n======\n\nNot included\n------------\n1. memory card\n2. lens cap",
            [
                "Camera",
                "Not included",
                "Camera: Not included memory card.",
                "Camera: Not included lens cap.",
            ],
        ),
        ("**Not included:**\n• memory card", ["Not included:", "Not included memory card."]),
        ("**Not included**\n\n• memory card", ["Not included", "Not included memory card."]),
        (
            "We ship it today. Not included:\n\na) memory card\nb) lens cap",
            [
                "We ship it today.",
                "Not included:",
                "Not included memory card.",
                "Not included lens cap.",
            ],
        ),
        (
            "You must not:\n- Open the case.\n- Use it in the rain. It is not\n  waterproof.",
            [
                "You must not:",
                "You must not Open the case.",
                "You must not Use it in the rain.",
                "It is not waterproof.",
            ],
        ),
        (
            "The policy does not cover:\n- Damage that was caused by water from a burst pipe.",
            [
                "The policy does not cover:",
                "The policy does not cover: Damage that was caused by water from a burst pipe.",
            ],
        ),
        (
            "- Included:\n  - battery\n- Not included:\n  - memory card",
            [
                "Included:",
                "Included battery.",
                "Not included:",
                "Not included memory card.",
            ],
        ),
        (
            "<h3>Not included</h3><ul><li>memory card<li><b>lens</b> cap</ul>",
            [
                "Not included",
                "Not included memory card.",
                "Not included lens cap.",
            ],
        ),
        (
            "<p>Not included:</p><ol><li><p>memory card</p></li></ol><p>Write to us.</p>",
            [
                "Not included:",
                "Not included memory card.",
                "Write to us.",
            ],
        ),
        (
            "<ul><li>Included:<ul><li>battery</ul></li><li>Not included:<ul><li>card</ul></li></ul>",
            [
                "Included:",
                "Included battery.",
                "Not included:",
                "Not included card.",
            ],
        ),
        (
            "Not included:\n- memory card\nThe camera weighs 300 g.",
            [
                "Not included:",
                "Not included memory card.",
                "The camera weighs 300 g.",
            ],
        ),
    ],
)
def test_lists(text, expected):
    """An item is read under the headings or the lead-in that govern it."""
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The **library** opens _at_ nine.", ["The library opens at nine."]),
        ("See [the rules](https://example.org/a_b). They <i>hold</i>.", ["See the rules.", "They hold."]),
        ("Tea &amp; cake cost 5&nbsp;euros.", ["Tea & cake cost 5 euros."]),
        (
            "<p>The library opens at nine.</p><p>Ten books may be borrowed.</p>",
            [
                "The library opens at nine.",
                "Ten books may be borrowed.",
            ],
        ),
        ("<div>It opens at nine<br>It closes at five</div>", ["It opens at nine", "It closes at five"]),
        ("Ｔｈｅ ｌｉｂｒａｒｙ ｏｐｅｎｓ ａｔ ９．", ["The library opens at 9."]),
        ("The oﬃce is ﬁne.", ["The office is fine."]),
        ("> The library opens at nine.", ["The library opens at nine."]),
        (
            "The inspection took place on the first of March. No\nleaks were found.",
            [
                "The inspection took place on the first of March.",
                "No leaks were found.",
            ],
        ),
    ],
)
def test_mark_up(text, expected):
    """It is read through, as are other ways to write the same letters."""
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Smith, J., Jones, K., 2019\nDoe, A., Roe, B., 2020\nPoe, C., Lowe, D., 2021",
        "Roses are red, violets are blue\nSugar is sweet, and so are you\nThe end is near, the sky is clear",
        "Anna Berg, Street 5, 12345 Oslo\nBob Lund, Side Road 7, 23456 Bergen\nEva Dahl, Lane 1, 34567 Voss",
        "Oslo, Norway\nBergen, Norway\nTokyo, Japan",
        "2024-01-01 12:00:00,123 INFO begun\n2024-01-01 12:00:01,456 on\n2024-01-01 12:00:02,789 off",
        "int a, b;\nint c, d;\nint e, f;",
        "x = f(a, b)\ny = f(c, d)\nz = f(e, f)",
        "INFO\tstart\tok\nINFO\tload\tok\nINFO\tstop\tok",
        "We came, we saw\nThey came, they saw, they went\nNobody came, nobody saw",
        "Yes, it rained.\nNo, it did not snow.\nWell, it was cold.",
        "name,age\nAnna,34",
        "First, we met; then, we ate.\nSecond, we met; then, we slept.\nThird, we met; then, we left.",
        "Use a | b to pipe.\nUse a & b to run both.",
        "grep x | sort\ncat y | sort\nls | sort",
        "The score was 3 | 2 at the break.",
        "|x| is never negative.\n|y| is not either.",
        'a,"b\nc,d\ne,f',
        "Dear Anna,\nthank you, it came.\nYours, Bob",
        "<b>Note</b> that x < y and y > z. A <table is not here.",
        "The table (<table>) is never closed.",
        "1984. A year.\n1985. Another year.",
        "A. Smith came first.\nB. Jones came second.",
        "- Hello!\n- Good morning.\n- Who is there?",
        "The temperature was\n- 5 degrees in March.",
    ],
)
def test_what_only_looks_like_a_table_or_list(text):
    """Is prose: its sentences, as they are found in any text."""
    assert [one.span for one in statements(text)] == list(split_sentences(text))
    assert not any(one.names for one in statements(text))


def test_places():
    """Spans are those of sentences, items and rows; the cells of a row share its place."""
    text = f"# Hours\n\nIt **rains**. See:\n\n{TABLE}\n\nBring:\n- a *coat*\n\nBye."
    found = [text[slice(*one.span)] for one in statements(text)]
    rows = TABLE.splitlines()[2:]
    assert found == [
        "# Hours",
        "It **rains**.",
        "See:",
        rows[0],
        rows[0],
        rows[1],
        rows[1],
        "Bring:",
        "a *coat*",
        "Bye.",
    ]
    cell = next(one for one in statements(text) if one.text == CELLS[1])
    assert [text[slice(*place)] for place in cell.places] == ["Sun", "**Harbour**", "closed"]


def test_headings_say_nothing_by_themselves():
    """Nor do lead-ins; they are in passages with what follows them, and all that a text of headings has."""

    def passages(text: str) -> list[list[str]]:
        block = Block([modernbert_nli.passages._sentence(0, one, text) for one in statements(text)], None)
        said = [modernbert_nli.passages.said_by(one, text) for one in block.sentences]
        return [said[a:b] for a, b in block.passages([1, 3])]

    assert passages("# Not included\n\nThe card. It is red.") == [
        ["The card."],
        ["It is red."],
        ["Not included", "The card.", "It is red."],
    ]
    assert passages("# Not included\n- card\n- cap") == [
        ["Not included card."],
        ["Not included cap."],
        ["Not included card.", "Not included cap."],
    ]
    assert passages("# Title") == [["Title"]]


@pytest.mark.parametrize(
    ("names", "claim", "named"),
    [
        (["Harbour", "City centre", "Airport"], "The harbour is closed.", {0}),
        (["Harbour", "City centre", "Airport"], "Is it open in the centre?", {1}),
        (["Harbour", "City centre", "Airport"], "Both airports and the harbour are open.", {0, 2}),
        (["Harbour", "City centre", "Airport"], "It is closed.", set()),
        (["Guinea", "Papua New Guinea"], "Papua New Guinea is an island.", {1}),
        (["Guinea", "Papua New Guinea"], "Guinea is in Africa.", {0}),
        (["Basic plan", "Pro plan"], "The Pro costs more.", {1}),
        (["Basic plan", "Pro plan"], "The plan costs more.", set()),
        (["Mon–Fri", "Sat", "Sun"], "It is closed on Saturday.", {1}),
        (["Inhabitants", "Founded"], "It is inhabited.", {0}),
        (["Yes", "No"], "No, it is not.", set()),
        (["2019", "2020"], "It was so in 2020.", {1}),
    ],
)
def test_names(names, claim, named):
    """By the whole name, or a word that no other has."""
    assert Names(names).named(claim) == named


def test_passages_speak_of_what_they_are_about():
    """A cell of another row or column, a table of another heading, an item of another list are silent."""
    table = "| Pier | First | Last |\n|--|--|--|\n| Arven | 06:00 | 23:00 |\n| Bode | 07:00 | 22:00 |"
    text = f"## Summer\n\n{table}\n\n## Winter\n\n{table}\n\nIncluded:\n- map\n\nNot included:\n- lunch\n"
    block = Block([modernbert_nli.passages._sentence(0, one, text) for one in statements(text)], None)
    passages = block.passages([1])

    def heard(claim: str) -> list[tuple[int, str | None]]:
        about = speaking(block, passages, [claim])[0].tolist()
        inside = [block.sentences[a] for (a, _), yes in zip(passages, about, strict=True) if yes]
        return [(text.find("Winter") < one.span[0], one.read_as) for one in inside]

    items = [(True, "Winter: Included map."), (True, "Winter: Not included lunch.")]
    last = "The Last of Bode is 22:00."
    assert heard("The last ferry from Bode leaves at 22:00.") == [(False, last), (True, last), *items]
    first = "The First of Arven is 06:00."
    assert heard("In winter the first one from Arven leaves at 06:00.") == [(True, first), *items]
    assert items[0] not in heard("Lunch is included.")
    assert items[1] in heard("Lunch is included.")


WORDS = st.sampled_from(
    ["Rain", "fell.", "It,", "was;", "cold!", "a", "b-c", "12", "3.5%", "(so)", "said:", "No?", "e.g.", "猫"]
)
PROSE = st.lists(st.lists(WORDS, min_size=1, max_size=8).map(" ".join), min_size=1, max_size=8).map("\n".join)


@given(PROSE)
def test_prose_is_as_it_was(text):
    """The same sentences, encoded as they stand but for white space."""
    found = list(statements(text))
    if any(one.names for one in found):  # a list under a line that ends in a colon, by chance
        return
    assert [one.span for one in found] == list(split_sentences(text))
    for one in found:
        assert one.text.split() == text[slice(*one.span)].split()


PIECES = [*'ab.: \n|-#*,;\t<>/12"&`', "<td>", "<tr>", "</table>", "<li>", "</ul>", "<table>"]
PIECES += ["\n- ", "\n|--|--|\n", "a|b\n"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_text(text):
    """Places are in order and in the text, groups do not come back, and something is said."""
    found = list(statements(text))
    assert bool(found) == bool(text.strip())
    for before, after in pairwise(found):
        assert before.span == after.span or before.span[1] <= after.span[0]
        assert before.group <= after.group
    for one in found:
        assert one.text.strip()
        assert all(0 <= start <= end <= len(text) for start, end in (one.span, *one.places))


@given(st.integers(2, 5), st.integers(2, 30), st.sampled_from(["|", ";", "\t", ","]))
def test_each_row_is_by_itself(columns, rows, sign):
    """No passage of any size has cells of two rows."""
    lines = [[f"column {'abcde'[at]}" for at in range(columns)]]
    lines += [[f"row{row}", *(str(row * at) for at in range(1, columns))] for row in range(rows)]
    text = "\n".join(sign.join(line) for line in lines)
    if sign == "|":
        text = text.replace("\n", f"\n{'|'.join(['--'] * columns)}\n", 1)
    found = list(statements(text))
    block = Block([modernbert_nli.passages._sentence(0, one, text) for one in found], None)
    assert len(found) == rows * (columns - 1)
    for start, stop in block.passages([1, 3, 20]):
        assert len({one.span for one in block.sentences[start:stop]}) == 1


@pytest.fixture(scope="module")
def tiny(tiny_modernbert):
    return make_model(tiny_modernbert, "separate").as_pipeline()


@pytest.fixture(scope="module")
def quick(minilm):
    model, _ = load_modernbert_nli(str(CHECKPOINT), base=minilm)
    return model.as_pipeline(device="cpu")


@pytest.mark.parametrize("size", [1, 60, 100_000])
def test_blocks_change_nothing(tiny, monkeypatch, size):
    """Rows and items that are read in many blocks make the passages that they make in one."""
    text = f"It rains. It pours.\n\n{TABLE}\n\nBring:\n- a coat\n- a hat\n- a map\n\nBye. Thanks."
    monkeypatch.setattr(modernbert_nli.passages, "BLOCK", size)
    passages = [
        " ".join(modernbert_nli.passages.said_by(one, text) for one in block.sentences[a:b])
        for block in Reader(tiny.model, [1, 2], encode=False).blocks([("it", text)])
        for a, b in block.passages([1, 2])
    ]
    assert len(passages) == len(set(passages)) == 3 + 6 + 5 + 3, passages
    assert f"{CELLS[0]} {CELLS[1]}" in passages
    assert f"{CELLS[1]} {CELLS[2]}" not in passages


def test_evidence_of_a_table(quick):
    """The row as it stands, and how it was read; of prose nothing is added."""
    text = f"It rains.\n\n{TABLE}\n"
    result = quick.check("The Sunday hours of the airport are 08:00–20:00.", text)
    place = result["evidence"][0]
    assert text[place["start"] : place["end"]] == place["text"] == TABLE.splitlines()[3]
    assert place["read_as"] == CELLS[3]
    assert "read_as" not in quick.check("It rains.", "It\nrains. It pours.")["evidence"][0]
    assert json.loads(json.dumps(result)) == result


def test_a_splitter_reads_no_tables(tiny):
    """Its sentences are taken as they are."""
    spans = [one.span for one in Reader(tiny.model, [1], splitter=str.splitlines).statements(TABLE)]
    assert [TABLE[slice(*span)] for span in spans] == TABLE.splitlines()


def test_every_way_in_reads_tables(tiny, tiny_modernbert):
    """Sources that were read before, states of whole texts, heads that read both texts."""
    text = f"It rains.\n\n{TABLE}"
    rows = TABLE.splitlines()[2:]
    claim = "The harbour is closed on Sunday."
    kept = tiny.model.encode([text])
    joint = make_model(tiny_modernbert, "cls").as_pipeline()
    for result in (
        tiny.check(claim, tiny.read(text)),
        tiny.check(claim, kept, texts=[text]),
        joint.check(claim, text),
    ):
        for place in result["evidence"]:
            assert text[place["start"] : place["end"]] == place["text"]
            assert place["text"] in ("It rains.", rows[0])
            assert place["text"] != rows[0] or "Harbour" in place["read_as"]


def test_a_cell_beyond_the_window_is_read_in_parts(tiny):
    """Nothing is cut off, and the row is its place."""
    text = f"| A | B |\n|--|--|\n| x | {'word ' * 2000}|\n| y | 1 |"
    result = tiny.check("Somebody eats.", text)
    assert result["read"] == 1.0
    parts = [one for one in Reader(tiny.model, [1]).statements(text) if "word" in one.text]
    assert sum(one.text.count("word") for one in parts) == 2000
    assert {text[slice(*one.span)][:5] for one in parts} == {"| x |"}


def test_a_cell_of_another_row_supports_nothing(quick):
    """Of the cases that the wording was not chosen on; two that the heads get wrong are allowed for."""
    wrong, missed, every = [], [], 0
    for case in map(json.loads, CASES.read_text(encoding="utf-8").splitlines()):
        if "fresh" not in case:
            continue
        source = next(iter(sources(case).values()))
        for claim, true in case["claims"]:
            every += 1
            supported = quick.check(claim, source)["verdict"] == "supported"
            (missed if true else wrong).extend([claim] * (supported != true))
    assert every >= 50
    assert len(wrong) <= 2, wrong
    assert len(missed) <= 5, missed
