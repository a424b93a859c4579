from __future__ import annotations

import datetime
import gzip
import io
import struct
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import DataError
from orchestrator.store import memory
from pipelines.data.columns import is_numeric, match_labels, read_texts
from pipelines.data.datasets import BUILT_IN, compute_fingerprint, read_features, read_table

ROWS = [f"{i * 0.5},{'ab'[i % 2]},{i % 3}" for i in range(30)]
HEADED = "x,c,y\n" + "\n".join(ROWS) + "\n"


def put(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def lines(form: str, rows: int = 20) -> str:
    return "\n".join(form.format(i=i, h=i % 2, t=i % 3, x=i * 1.5) for i in range(rows)) + "\n"


def refusal(source: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_table(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what can be named ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "image"),
    [
        ("digits", (1797, 64), True),
        ("wine", (178, 13), False),
        ("breast_cancer", (569, 30), False),
        ("diabetes", (442, 10), False),
    ],
)
def test_the_built_in_sets_are_there(name: str, shape: tuple[int, int], image: bool) -> None:
    table = read_table(name)
    assert table.features.shape == shape
    assert len(table.target) == shape[0]
    assert table.image is image
    assert name in BUILT_IN


def test_a_local_folder_does_not_shadow_a_built_in_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert len(read_table("digits").features) == 1797
    assert "folder" in refusal("./digits")


@pytest.mark.parametrize(
    ("name", "separator"),
    [
        ("d.csv", ","),
        ("d.csv", ";"),
        ("d.tsv", "\t"),
        ("d.txt", "|"),
        ("d.data", ", "),
        ("d.data", "   "),
    ],
)
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_every_separator_gives_the_same_table(
    tmp_path: Path, name: str, separator: str, header: bool, packed: bool
) -> None:
    text = (HEADED if header else "\n".join(ROWS)).replace(",", separator)
    content = gzip.compress(text.encode()) if packed else text.encode()
    table = read_table(put(tmp_path, name + ".gz" * packed, content))
    first, second = ("x", "c") if header else ("0", "1")
    assert table.has_header is header
    assert table.target_name == ("y" if header else "2")
    assert table.features[first].tolist() == [i * 0.5 for i in range(30)]
    assert table.features[second].tolist() == ["ab"[i % 2] for i in range(30)]
    assert table.target.tolist() == [i % 3 for i in range(30)]


def test_a_parquet_file_gives_the_table_of_the_csv_file(tmp_path: Path) -> None:
    table = read_table(put(tmp_path, "d.csv", HEADED))
    frame = table.features.assign(y=table.target)
    frame.to_parquet(tmp_path / "d.parquet")
    same = read_table(str(tmp_path / "d.parquet"))
    assert compute_fingerprint(same) == compute_fingerprint(table)


def test_typed_columns_become_numbers_or_text(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "moment": pd.date_range("2020", periods=20, tz="UTC"),
            "day": [datetime.date(2020, 1, 1)] * 20,
            "decimal": [Decimal("1.5")] * 20,
            "maybe": [True, None] * 10,
            "yes": [True, False] * 10,
            "nullable": pd.array([1, None] * 10, dtype="Int64"),
            "code": pd.Categorical(["1", "2"] * 10),
            "text": ["a", None] * 10,
            "y": [True, False] * 10,
        }
    )
    frame.to_parquet(tmp_path / "d.parquet")
    table = read_table(str(tmp_path / "d.parquet"))
    assert [c for c in table.features if not is_numeric(table.features[c])] == ["code", "text"]
    first = table.features.iloc[0]
    assert first[["decimal", "maybe", "yes", "nullable"]].tolist() == [1.5, 1, 1, 1]
    assert first["moment"] == pd.Timestamp("2020", tz="UTC").timestamp()
    assert first["code"] == "1"
    assert table.target.dtype == bool


def test_arrays_with_a_test_set_are_read_from_npz(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 4, 4), dtype=np.uint8)
    y = np.array(list("ab") * 10)
    np.savez(tmp_path / "d.npz", X=x, y=y, X_test=x[:3], y_test=y[:3])
    table = read_table(str(tmp_path / "d.npz"))
    assert table.image
    assert np.array_equal(table.features.to_numpy(), x.reshape(20, 16))
    assert table.target.tolist() == y.tolist()
    assert table.test_features is not None
    assert table.test_features.shape == (3, 16)


def write_idx(path: Path, values: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    shape = struct.pack(f">{values.ndim}I", *values.shape)
    content = bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_an_idx_folder_is_read_with_its_test_set(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (30, 3, 2), dtype=np.uint8)
    y = (np.arange(30) % 10).astype(np.uint8)
    for part, rows in (("train", slice(0, 20)), ("t10k", slice(20, 30))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte{ending}", x[rows])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte{ending}", y[rows])
    table = read_table(str(tmp_path))
    assert table.image
    assert np.array_equal(table.features.to_numpy(), x[:20].reshape(20, 6))
    assert table.test_features is not None
    assert table.test_target is not None
    assert np.array_equal(table.test_features.to_numpy(), x[20:].reshape(10, 6))
    assert table.test_target.tolist() == y[20:].tolist()
    assert all(dtype == np.uint8 for dtype in table.features.dtypes)


# --- the look of delimited text ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "header"),
    [
        (lines('"{i}";"x,{h}";{h}'), False),
        ('"a b";"c;d";y\n' + lines('"{i}";"x,{h}";{h}'), True),
        ("cap,shape,edible\n" + lines("c{h},s{t},e{h}"), True),
        (lines("c{h},s{t},e{h}"), False),
        (lines("c{h},{t},e{h}"), False),
        (lines("?,{t},e{h}"), False),
        ("0,1,2\n" + lines("{x},{t},{h}"), True),
        ("name,2019,2020,2021\n" + lines("n{i},{t},{x},{h}"), True),
        ("1,2,3\n" + lines("{i},{x},{h}"), False),
        ("label,1x1,1x2\n" + lines("{h},{i},{t}"), True),
        (lines("  {x}   {t:4d} {h}"), False),
    ],
)
def test_a_header_is_told_from_a_row(tmp_path: Path, text: str, header: bool) -> None:
    text = text.replace("?,1,e1", "a,1,e1")
    assert read_table(put(tmp_path, "d.csv", text), target=None).has_header is header


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.from_regex(r"[a-zA-Z][a-z_ ]{0,8}[a-z]", fullmatch=True), min_size=2,
                   max_size=6, unique=True),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    data=st.data(),
)  # fmt: skip
def test_what_pandas_writes_is_read_back(
    tmp_path: Path, names: list[str], separator: str, data: st.DataObject
) -> None:
    number = st.floats(-1e6, 1e6).map(lambda v: round(v, 4)) | st.just(float("nan"))
    frame = pd.DataFrame({n: data.draw(st.lists(number, min_size=10, max_size=10)) for n in names})
    frame[names[-1]] = np.arange(10) / 4
    if frame.isna().all().any():
        return
    frame.to_csv(tmp_path / "d.csv", sep=separator, index=False)
    table = read_table(str(tmp_path / "d.csv"))
    assert table.has_header
    pd.testing.assert_frame_equal(
        table.features.astype(float), frame[names[:-1]].astype(float), rtol=1e-12
    )


def test_a_comment_on_top_is_survived_and_test_labels_lose_their_full_stop(tmp_path: Path) -> None:
    train = put(tmp_path, "a.data", lines("{i}, Private{t}, ?, >50K\n{i}, Gov, b, <=50K"))
    test = put(tmp_path, "a.test", "|1x3 Cross validator\n" + lines("{i}, Gov, b, >50K."))
    table = read_table(train, test=test)
    assert table.test_target is not None
    assert set(table.test_target) == {">50K"}
    assert not table.has_header
    assert table.features["2"].isna().sum() == 20


def test_a_full_stop_stays_where_it_belongs_to_the_label() -> None:
    found = pd.Series(["a.", "b.", "c.", "a"])
    assert match_labels(found, ["a.", "b"]).tolist() == ["a.", "b", "c.", "a"]


def test_missing_values_are_known_by_their_usual_names(tmp_path: Path) -> None:
    gaps = ["?", "", "NA", "nan", "NaN", "null", "None", "N/A"]
    rows = [f"{gap},{gap},{i % 2}" for i, gap in enumerate(gaps)]
    rows += ["1.5,a,0", "2,b,1"]
    table = read_table(put(tmp_path, "d.csv", "x,c,y\n" + "\n".join(rows)))
    assert is_numeric(table.features["x"])
    assert table.features.isna().sum().tolist() == [8, 8]


def test_numbers_beyond_float32_and_infinities_are_missing(tmp_path: Path) -> None:
    text = "x,z,y\n" + lines("{i},{x},{h}") + "inf,1e300,0\n"
    assert read_table(put(tmp_path, "d.csv", text)).features.isna().sum().tolist() == [1, 1]


def test_a_decimal_comma_is_read(tmp_path: Path) -> None:
    path = put(tmp_path, "d.csv", "a;b;y\n" + lines("{i},5;{i};{h}"))
    assert read_table(path).features["a"].tolist() == [i + 0.5 for i in range(20)]
    assert read_features(path, ["a"], None)[0]["a"].tolist()[:2] == ["0.5", "1.5"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_umlauts_are_read_in_the_usual_encodings(tmp_path: Path, encoding: str) -> None:
    text = "größe,c,y\r\n" + lines("{i},ä{h},{h}").replace("\n", "\r\n")
    table = read_table(put(tmp_path, "d.csv", text.encode(encoding)))
    assert list(table.features.columns) == ["größe", "c"]
    assert set(table.features["c"]) == {"ä0", "ä1"}


def test_the_row_numbers_that_pandas_writes_are_no_feature(tmp_path: Path) -> None:
    pd.DataFrame({"a": np.arange(20) / 3, "y": [0, 1] * 10}).to_csv(tmp_path / "d.csv")
    table = read_table(str(tmp_path / "d.csv"))
    assert list(table.features.columns) == ["a"]
    assert "counts the rows" in table.notes[0]


def test_a_separator_at_the_end_of_each_line_is_no_column(tmp_path: Path) -> None:
    for name, head in (("a.csv", "a,b,y,\n"), ("b.csv", "a,b,y\n")):
        table = read_table(put(tmp_path, name, head + lines("{i},{x},{h},")))
        assert list(table.features.columns) == ["a", "b"]


# --- the target -------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "name"), [(None, "2"), ("0", "0"), ("-1", "2"), ("-3", "0")])
def test_without_a_header_the_target_is_a_position(
    tmp_path: Path, target: str | None, name: str
) -> None:
    table = read_table(put(tmp_path, "d.csv", "\n".join(ROWS)), target=target)
    assert table.target_name == name
    assert name not in table.features.columns


def test_rows_without_a_target_are_left_out_with_a_note(tmp_path: Path) -> None:
    rows = lines("{i},{x},{h}") + "7,8,\n9,9,?\n"
    table = read_table(put(tmp_path, "d.csv", "a,b,y\n" + rows))
    assert len(table.features) == len(table.target) == 20
    assert table.target.dtype == np.int64
    assert "2 of 22 rows" in table.notes[0]


def test_bools_stay_bools_when_one_is_missing(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * 2},{i % 2 == 0}\n" for i in range(20)) + "1,2,\n"
    assert read_table(put(tmp_path, "d.csv", "a,b,y\n" + rows)).target.dtype == bool


# --- new rows for a trained model -------------------------------------------------------------


def test_columns_are_found_by_name_whatever_their_order(tmp_path: Path) -> None:
    path = put(tmp_path, "new.csv", "extra,y,c,x\n1,0,a,007\n")
    features, target = read_features(path, ["x", "c"], "y")
    assert features.values.tolist() == [["007", "a"]]
    assert target is not None
    assert target.tolist() == ["0"]


@pytest.mark.parametrize("text", ["x,c\n1.5,a\n", "1.5,a\n"])
def test_the_target_may_be_absent_and_so_may_the_header(tmp_path: Path, text: str) -> None:
    features, target = read_features(put(tmp_path, "new.csv", text), ["x", "c"], "y")
    assert features.values.tolist() == [["1.5", "a"]]
    assert list(features.columns) == ["x", "c"]
    assert target is None


@pytest.mark.parametrize(
    ("columns", "target", "row"), [(["0", "1"], "2", [1, "a"]), (["1", "2"], "0", ["a", 2])]
)
def test_without_names_columns_are_found_by_position(
    tmp_path: Path, columns: list[str], target: str, row: list[object]
) -> None:
    whole = put(tmp_path, "whole.csv", "1,a,2\n")
    features, found = read_features(whole, columns, target)
    assert features.values.tolist() == [[str(v) for v in row]]
    assert found is not None
    bare = put(tmp_path, "bare.csv", ",".join(str(v) for v in row) + "\n")
    assert read_features(bare, columns, target)[0].values.tolist() == features.values.tolist()


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "new.csv", "x,colour,y\n1,a,0\n")
    with pytest.raises(DataError, match=r"needs column 'color'.*'colour'"):
        read_features(path, ["x", "color"], "y")


def test_a_row_of_the_wrong_width_without_a_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 columns, got 3"):
        read_features(put(tmp_path, "new.csv", "1,2,3\n4,5,6\n"), ["x", "c"], "y")


# --- the fingerprint --------------------------------------------------------------------------


def test_the_fingerprint_is_the_content_not_the_path(tmp_path: Path) -> None:
    a, b = put(tmp_path, "a.csv", HEADED), put(tmp_path, "b.csv", HEADED.replace(",", ";"))
    assert compute_fingerprint(read_table(a)) == compute_fingerprint(read_table(b))
    assert len(compute_fingerprint(read_table(a))) == 32


@pytest.mark.parametrize(
    ("old", "new"), [("0.5", "0.25"), ("0.5,b", "0.5,c"), ("x,c", "x,d"), ("0.5,b,1", "0.5,b,2")]
)
def test_any_change_changes_the_fingerprint(tmp_path: Path, old: str, new: str) -> None:
    a, b = put(tmp_path, "a.csv", HEADED), put(tmp_path, "b.csv", HEADED.replace(old, new, 1))
    assert compute_fingerprint(read_table(a)) != compute_fingerprint(read_table(b))


def test_a_test_set_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", HEADED)
    assert compute_fingerprint(read_table(path)) != compute_fingerprint(read_table(path, test=path))


def test_the_fingerprint_of_a_built_in_set_stays_the_same() -> None:
    assert compute_fingerprint(read_table("wine")) == compute_fingerprint(read_table("wine"))
    assert compute_fingerprint(read_table("digits")) != compute_fingerprint(read_table("wine"))


# --- what is refused, and how -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("e.csv", "", "empty"),
        ("e.csv", "\n \n", "empty"),
        ("one.csv", "a\n" + lines("{i}"), "feature column"),
        ("few.csv", "a,y\n" + lines("{i},{h}", rows=9), "10 rows"),
        ("gap.csv", "a,b,y\n" + lines("{i},,{h}"), "'b'"),
        ("same.csv", "a,y\n" + lines("{i},1"), "two different values"),
        ("none.csv", "a,y\n" + lines("{i},?"), "missing in all 20"),
        ("twice.csv", "a,a,y\n" + lines("{i},{x},{h}"), "'a' occurs more than once"),
        ("names.csv", "a,y\n" + lines("r{i},{x},{h}"), "2 names and 3 values"),
        ("ragged.csv", "a,y\n" + lines("{i},{h}") + "1,2,3,4\n", "line 22"),
        ("wide.csv", HEADED.encode("utf-16"), "UTF-8"),
        ("d.xlsx", "x", ".csv"),
        ("d.parquet", "no parquet", "damaged"),
        ("d.npz", "no npz", "damaged"),
        ("d.csv.gz", "no gz", "damaged"),
        ("d.csv.gz", gzip.compress(HEADED.encode(), mtime=0)[:80], "damaged"),
    ],
)
def test_bad_files_are_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, expected: str
) -> None:
    path = put(tmp_path, name, content)
    message = refusal(path)
    assert message.startswith(path)
    assert expected in message


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"X": np.ones((20, 2))}, "'y'"),
        ({"a": np.ones((20, 2))}, "X and y"),
        ({"X": np.ones(20), "y": np.ones(20)}, "(N, D)"),
        ({"X": np.ones((20, 2)), "y": np.ones(19)}, "20 rows"),
        ({"X": np.full((20, 2), "a"), "y": np.ones(20)}, "numbers"),
        ({"X": np.ones((20, 2), dtype=object), "y": np.ones(20)}, "allow_pickle=False"),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], expected: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    assert expected in refusal(str(tmp_path / "d.npz"))


def test_labels_and_images_of_different_number_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((20, 2, 2), np.uint8))
    assert "train-labels" in refusal(str(tmp_path))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(19, np.uint8))
    assert "19 labels" in refusal(str(tmp_path))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"abc")
    assert "damaged" in refusal(str(tmp_path))


def test_an_idx_folder_whose_images_differ_in_size_is_refused(tmp_path: Path) -> None:
    for part, side in (("train", 3), ("t10k", 2)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((20, side, side), np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.arange(20, dtype=np.uint8) % 2)
    with pytest.raises(DataError, match="images of one size, got 9 and 4 pixels"):
        read_table(str(tmp_path))


def test_a_misspelt_source_gets_the_close_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "housing.csv", HEADED)
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'housing.csv'" in refusal("housng.csv")
    assert "did you mean 'digits'" in refusal("digit")
    assert "'wine'" in refusal("no/such/thing.csv")


def test_a_misspelt_target_gets_the_close_names(tmp_path: Path) -> None:
    path = put(tmp_path, "d.csv", HEADED)
    assert "--target with one of 'y'" in refusal(path, target="Y")
    assert "'x', 'c', 'y'" in refusal(path, target="quality")
    bare = put(tmp_path, "bare.csv", "\n".join(ROWS))
    for wrong in ("7", "-9", "y"):
        assert "from 0 to 2" in refusal(bare, target=wrong)


def test_a_test_set_must_fit_the_training_set(tmp_path: Path) -> None:
    path = put(tmp_path, "d.csv", HEADED)
    assert "no column 'y'" in refusal(path, test=put(tmp_path, "t.csv", "x,c\n1,a\n"))
    text = put(tmp_path, "u.csv", "x,c,y\nabc,a,1\n")
    assert "'x' needs numbers, got 'abc'" in refusal(path, test=text)
    assert "missing in all 1" in refusal(path, test=put(tmp_path, "v.csv", "x,c,y\n1,a,\n"))


def test_a_column_of_lists_is_refused_by_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [[1]] * 20, "y": [0, 1] * 10})
    frame.to_parquet(tmp_path / "d.parquet")
    assert "column 'a' needs numbers or text" in refusal(str(tmp_path / "d.parquet"))


def test_whole_numbers_read_as_text_without_a_point() -> None:
    column = pd.Series([3.0, 2.5, None, True, " a "], dtype=object, name="c")
    found = read_texts(column, "here")
    assert found.dropna().tolist() == ["3", "2.5", "True", "a"]


def write_npz(path: Path, shape: tuple[int, ...], kind: str = "<f8") -> str:
    """An archive whose arrays declare a shape, and hold 16 bytes."""
    header = io.BytesIO()
    content = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, content)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("X", "y"):
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(16))
    return str(path)


@pytest.mark.parametrize(
    "shape", [(10**13, 3), (10**9, 3), (10**30, 2), (-1, 3), (2**63, 0), (10**13, 0)]
)
@pytest.mark.parametrize("kind", ["<f8", "|u1", "|V0"])
def test_an_npz_that_declares_more_than_it_holds_is_refused_before_memory_is_taken(
    shape: tuple[int, ...], kind: str, tmp_path: Path
) -> None:
    message = refusal(write_npz(tmp_path / "d.npz", shape, kind))
    assert "X.npy declares the shape" in message
    assert "\n" not in message and len(message) < 400


def test_data_that_does_not_fit_into_memory_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "d.npz", X=np.zeros((1000, 3)), y=np.arange(1000))
    pd.DataFrame({"a": np.arange(1000), "y": np.arange(1000)}).to_parquet(tmp_path / "d.parquet")
    monkeypatch.setattr(memory, "measure_free_memory", lambda: 1000.0)
    for name in ("d.npz", "d.parquet"):
        assert "of memory, 1000 bytes are free" in refusal(str(tmp_path / name))


def test_a_reader_without_memory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("malloc of size 80000000000 failed")

    monkeypatch.setattr("pipelines.data.sources.read_delimited", fail)
    assert "needs more memory" in refusal(put(tmp_path, "d.csv", "a,b\n1,2\n"))
