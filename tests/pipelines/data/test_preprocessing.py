from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import DataError
from pipelines.data.datasets import Table, read_features, read_table
from pipelines.data.encode import decode_target, encode_features, encode_target
from pipelines.data.fit_preprocessing import MAX_CATEGORIES, fit_preprocessing, make_transformer
from pipelines.data.prepare import prepare_table
from pipelines.data.preprocessing import LIMIT, Preprocessing
from pipelines.data.splits import split_rows


def table_of(
    features: pd.DataFrame, target: Any, *, test: tuple[pd.DataFrame, Any] | None = None
) -> Table:
    return Table(
        features=features,
        target=pd.Series(target, name="y"),
        target_name="y",
        test_features=test[0] if test else None,
        test_target=pd.Series(test[1], name="y") if test else None,
        source="made up",
        has_header=True,
    )


def learn(features: pd.DataFrame, target: Any = None, task: str = "classification") -> Any:
    target = np.arange(len(features)) % 2 if target is None else target
    return fit_preprocessing(features, pd.Series(target, name="y"), task=task, image=False)


def mixed(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "plain": rng.normal(3, 2, rows),
            "count": rng.integers(0, 9, rows),
            "tailed": np.exp(rng.normal(0, 3, rows)),
            "gaps": np.where(rng.random(rows) < 0.3, np.nan, rng.normal(size=rows)),
            "text": rng.choice(["red", "green", "blue"], rows),
            "holes": rng.choice(["x", "y", ""], rows),
        }
    )
    frame["holes"] = frame["holes"].where(frame["holes"] != "")
    return frame


# --- apply is scikit-learn's pipeline ---------------------------------------------------------

numbers = st.floats(-1e4, 1e4, width=32) | st.just(float("nan"))
words = st.sampled_from(["a", "b", "c", "d", "e"]) | st.none()


def frames(kinds: list[str], rows: int, known: st.SearchStrategy[Any]) -> Any:
    columns = {
        f"{kind}{i}": st.lists(known if kind == "text" else numbers, min_size=rows, max_size=rows)
        for i, kind in enumerate(kinds)
    }
    return st.fixed_dictionaries(columns)


def typed(columns: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype="str" if name.startswith("text") else "float64")
            for name, values in columns.items()
        }
    )


def filled(frame: pd.DataFrame) -> pd.DataFrame:
    text = [name for name in frame.columns if name.startswith("text")]
    return frame.assign(**{name: frame[name].astype(object).fillna("") for name in text})


@settings(max_examples=80, deadline=None)
@given(st.data(), st.lists(st.sampled_from(["number", "text"]), min_size=1, max_size=5))
def test_apply_equals_scikit_learn_on_random_tables(data: st.DataObject, kinds: list[str]) -> None:
    train = typed(data.draw(frames(kinds, data.draw(st.integers(2, 25)), words)))
    new = typed(data.draw(frames(kinds, 8, words | st.just("never seen"))))
    ready = [filled(train), filled(new)]
    oracle = make_transformer(ready[0]).fit(ready[0])
    fitted = learn(train)
    for raw, wanted in zip((train, new), ready, strict=True):
        np.testing.assert_allclose(
            encode_features(fitted, raw), oracle.transform(wanted), rtol=1e-6, atol=1e-6
        )


def test_apply_equals_scikit_learn_where_categories_exceed_the_cap() -> None:
    rng = np.random.default_rng(0)
    names = np.array([f"n{i:03d}" for i in range(100)])
    train = pd.DataFrame({"text": rng.choice(names, 5000).astype(object), "x": rng.random(5000)})
    new = pd.DataFrame({"text": [*names, "never seen"], "x": 0.5}).astype({"text": object})
    fitted = learn(train)
    oracle = make_transformer(train).fit(train)
    assert encode_features(fitted, train).shape == (5000, 1 + MAX_CATEGORIES)
    np.testing.assert_allclose(
        encode_features(fitted, new), oracle.transform(new), rtol=1e-6, atol=1e-6
    )


def test_rows_are_the_same_in_one_block_or_in_many() -> None:
    frame = mixed(20_000, seed=0)
    fitted = learn(frame)
    parts = [encode_features(fitted, frame.iloc[i : i + 3000]) for i in range(0, 20_000, 3000)]
    assert np.array_equal(np.concatenate(parts), encode_features(fitted, frame))


def test_the_matrix_is_what_a_network_takes() -> None:
    matrix = encode_features(learn(mixed(50, seed=1)), mixed(30, seed=2))
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert np.isfinite(matrix).all()


# --- single columns ---------------------------------------------------------------------------


def test_a_missing_number_is_the_median_and_is_marked() -> None:
    train = pd.DataFrame({"x": [1.0, 2.0, 3.0, np.nan]})
    matrix = encode_features(learn(train), pd.DataFrame({"x": [2.0, np.nan]}))
    assert matrix[0, 0] == matrix[1, 0] == 0
    assert matrix[:, 1].tolist() == [0, 1]


def test_a_column_without_gaps_in_training_gets_no_mark_but_is_filled() -> None:
    fitted = learn(pd.DataFrame({"x": [1.0, 2.0, 3.0]}))
    assert encode_features(fitted, pd.DataFrame({"x": [np.nan]})).tolist() == [[0.0]]


def test_a_constant_column_has_scale_one() -> None:
    fitted = learn(pd.DataFrame({"x": [5.0] * 9}))
    assert fitted.numeric[0].scale == 1
    assert encode_features(fitted, pd.DataFrame({"x": [5.0, 6.0]})).tolist() == [[0.0], [1.0]]


def test_a_column_that_is_empty_in_training_does_not_fail() -> None:
    fitted = learn(pd.DataFrame({"x": [np.nan] * 9, "z": np.arange(9.0)}))
    assert np.isfinite(encode_features(fitted, pd.DataFrame({"x": [7.0], "z": [1.0]}))).all()


def test_a_mistyped_value_is_clipped() -> None:
    fitted = learn(pd.DataFrame({"x": np.arange(100.0)}))
    matrix = encode_features(fitted, pd.DataFrame({"x": [1e30, -1e30]}))
    assert matrix.tolist() == [[LIMIT], [-LIMIT]]


def test_a_heavy_tail_is_bent_and_an_even_column_is_not() -> None:
    fitted = learn(mixed(500, seed=3))
    assert [c.name for c in fitted.numeric if c.tailed] == ["tailed"]
    matrix = encode_features(fitted, mixed(500, seed=3))
    assert abs(matrix).max() < 8


def test_infinities_count_as_missing() -> None:
    fitted = learn(pd.DataFrame({"x": [1.0, 2.0, 3.0]}))
    matrix = encode_features(fitted, pd.DataFrame({"x": [np.inf, -np.inf, 1e300]}))
    assert matrix.tolist() == [[0.0]] * 3


def test_an_unseen_category_is_all_zeros_and_a_gap_is_a_category() -> None:
    train = pd.DataFrame({"c": pd.Series(["a", "b", None], dtype="str")})
    new = pd.DataFrame({"c": pd.Series(["a", "b", None, "z"], dtype="str")})
    found = encode_features(learn(train), new).tolist()
    assert found == [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_pixels_share_one_mean_and_one_scale() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 12), dtype=np.uint8)
    frame = pd.DataFrame(pixels, columns=[str(i) for i in range(12)])
    fitted = fit_preprocessing(
        frame, pd.Series(np.arange(50) % 2), task="classification", image=True
    )
    wanted = (pixels - pixels.mean()) / pixels.astype(float).std()
    np.testing.assert_allclose(encode_features(fitted, frame), wanted, rtol=1e-5, atol=1e-6)
    as_text = frame.astype(str)
    np.testing.assert_allclose(encode_features(fitted, as_text), wanted, rtol=1e-5, atol=1e-6)


def test_a_column_that_is_missing_or_no_number_is_named() -> None:
    fitted = learn(mixed(50, seed=1))
    with pytest.raises(DataError, match="needs column 'text'"):
        encode_features(fitted, mixed(5, seed=1).drop(columns="text"))
    with pytest.raises(DataError, match="'count' needs numbers, got 'many'"):
        encode_features(fitted, mixed(5, seed=1).assign(count="many"))


# --- the target -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [["b", "a", "c"] * 4, [3, 1, 2] * 4, [1.5, 2.0, 0.5] * 4, [True, False, True] * 4],
)
def test_classes_come_back_as_they_were(target: list[Any]) -> None:
    series = pd.Series(target, name="y")
    fitted = learn(pd.DataFrame({"x": np.arange(12.0)}), series)
    coded = encode_target(fitted, series)
    assert coded.dtype == np.int64
    assert set(coded) == set(range(len(set(target))))
    back = decode_target(fitted, coded).tolist()
    assert back == target
    assert [type(v) for v in back] == [type(v) for v in target]
    assert encode_target(fitted, series.astype(str)).tolist() == coded.tolist()


def test_numbers_come_back_in_natural_units() -> None:
    target = pd.Series([10.0, 20.0, 60.0], name="y")
    fitted = learn(pd.DataFrame({"x": [1.0, 2.0, 3.0]}), target, task="regression")
    coded = encode_target(fitted, target)
    assert coded.dtype == np.float32
    np.testing.assert_allclose([coded.mean(), coded.std()], [0, 1], atol=1e-6)
    np.testing.assert_allclose(decode_target(fitted, coded), target, rtol=1e-6)


def test_a_class_that_training_does_not_have_is_named() -> None:
    fitted = learn(pd.DataFrame({"x": np.arange(4.0)}), ["a", "b"] * 2)
    with pytest.raises(DataError, match=r"'y' needs one of the classes in training, got zebra in"):
        encode_target(fitted, pd.Series(["a", "zebra"], name="y"))
    assert encode_target(fitted, pd.Series(["a.", "b"], name="y")).tolist() == [0, 1]


# --- plain tables -----------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.data(), st.lists(st.sampled_from(["number", "text"]), min_size=1, max_size=5))
def test_the_way_through_json_is_exact(data: st.DataObject, kinds: list[str]) -> None:
    train = typed(data.draw(frames(kinds, 12, words)))
    fitted = learn(train)
    plain = fitted.to_json()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    assert Preprocessing.from_json(again) == fitted


def test_another_version_of_the_json_is_refused() -> None:
    plain = learn(mixed(50, seed=1)).to_json()
    with pytest.raises(DataError, match="another version"):
        Preprocessing.from_json({**plain, "surprise": 1})
    del plain["numeric"]
    with pytest.raises(DataError, match="numeric"):
        Preprocessing.from_json(plain)


# --- prepare ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "task", "outputs"),
    [
        ("digits", "classification", 10),
        ("wine", "classification", 3),
        ("diabetes", "regression", 1),
    ],
)
def test_a_built_in_set_is_ready_to_train_on(name: str, task: str, outputs: int) -> None:
    table = read_table(name)
    prepared = prepare_table(table, task=None, seed=0)
    data = prepared.data
    assert (prepared.task, data.outputs) == (task, outputs)
    total = len(data.x_train) + len(data.x_validation) + len(prepared.x_test)
    assert total == len(table.features)
    assert len(prepared.y_test) == len(prepared.x_test) > 0
    for matrix in (data.x_train, data.x_validation, prepared.x_test):
        assert matrix.dtype == np.float32
        assert matrix.flags.c_contiguous


def test_rows_outside_training_change_nothing_that_is_fitted() -> None:
    frame = mixed(200, seed=5)
    rng = np.random.default_rng(5)
    for task, target in (
        ("classification", rng.choice(["a", "b"], 200)),
        ("regression", rng.normal(size=200)),
    ):
        before = prepare_table(table_of(frame, target), task=task, seed=3)
        outside = split_rows(table_of(frame, target), task=task, seed=3)
        held_out = np.concatenate([outside.validation, outside.test])
        changed = frame.copy()
        changed.loc[held_out, ["plain", "gaps", "tailed"]] = [1e6, np.nan, -1e9]
        changed.loc[held_out, "text"] = "elsewhere"
        if task == "regression":
            target = target.copy()
            target[held_out] = 1e6
        after = prepare_table(table_of(changed, target), task=task, seed=3)
        assert after.preprocessing == before.preprocessing
        assert np.array_equal(after.data.x_train, before.data.x_train)
        assert np.array_equal(after.data.y_train, before.data.y_train)
        assert after.fingerprint != before.fingerprint


def test_a_test_set_of_its_own_is_used_whole() -> None:
    test = mixed(17, seed=8)
    table = table_of(mixed(60, seed=7), ["a", "b"] * 30, test=(test, ["a"] * 17))
    prepared = prepare_table(table, task=None, seed=0)
    assert len(prepared.x_test) == 17
    assert len(prepared.data.x_train) + len(prepared.data.x_validation) == 60
    assert np.array_equal(prepared.x_test, encode_features(prepared.preprocessing, test))


def test_a_class_that_only_the_test_set_has_is_refused() -> None:
    table = table_of(mixed(60, seed=7), ["a", "b"] * 30, test=(mixed(3, seed=8), ["a", "b", "c"]))
    with pytest.raises(DataError, match="got c in 1 rows"):
        prepare_table(table, task=None, seed=0)


def test_a_task_that_does_not_fit_is_refused() -> None:
    table = table_of(mixed(60, seed=7), ["a", "b"] * 30)
    with pytest.raises(DataError, match="--task classification"):
        prepare_table(table, task="regression", seed=0)
    with pytest.raises(DataError, match="'clustering'"):
        prepare_table(table, task="clustering", seed=0)


def test_the_same_seed_gives_the_same_arrays() -> None:
    table = read_table("wine")
    first, again, other = (prepare_table(table, task=None, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.data.x_train, again.data.x_train)
    assert not np.array_equal(first.data.x_train, other.data.x_train)


def test_a_new_file_gives_the_rows_that_training_gave(tmp_path: Path) -> None:
    frame = mixed(60, seed=9).assign(code=["007", "x1"] * 30, yes=[True, False] * 30)
    frame.assign(y=["a", "b"] * 30).to_csv(tmp_path / "train.csv", index=False)
    table = read_table(str(tmp_path / "train.csv"))
    prepared = prepare_table(table, task=None, seed=0)
    rows = frame.iloc[::2].assign(y="a").sample(frac=1, axis=1, random_state=0)
    rows.to_csv(tmp_path / "new.csv", index=False)
    features, target = read_features(
        str(tmp_path / "new.csv"), prepared.preprocessing.columns, table.target_name
    )
    found = encode_features(prepared.preprocessing, features)
    wanted = encode_features(prepared.preprocessing, table.features.iloc[::2])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert target is not None
    assert set(encode_target(prepared.preprocessing, target)) == {0}
