"""MSR-VTT, MSRVTT-QA, MSVD-QA, VATEX, AudioCaps, Clotho and ClothoAQA: layouts, and media that are gone."""

import pytest
from data.published.published_layouts import fill, read

from epalm.data.published import get_dataset
from epalm.errors import DataError


def test_msrvtt_captions(tmp_path):
    content = {
        "videos": [
            {"video_id": f"video{n}", "split": split, "category": 9, "url": "https://..."}
            for n, split in enumerate(["train", "validate", "test", "test"])
        ],
        "sentences": [
            {"sen_id": 1, "video_id": "video0", "caption": "a man sings"},
            {"sen_id": 0, "video_id": "video2", "caption": "a car"},
            {"sen_id": 2, "video_id": "video0", "caption": "a man is singing"},
            {"sen_id": 3, "video_id": "video3", "caption": "gone"},
            {"sen_id": 4, "video_id": "video1", "caption": "a cat"},
        ],
    }
    fill(tmp_path, {"MSRVTT_data.json": content}, ["videos/all/video0.mp4", "TestVideo/video2.avi", "video1.webm"])
    (row,) = read("msrvtt_captions", tmp_path, "train").rows
    assert (row.id, row.targets) == ("video0", ("a man sings", "a man is singing"))
    assert row.media == {"video": tmp_path / "videos/all/video0.mp4"}
    assert [row.id for row in read("msrvtt_captions", tmp_path, "val").rows] == ["video1"]
    test = read("msrvtt_captions", tmp_path, "test")
    assert [row.id for row in test.rows] == ["video2"]
    assert (test.missing, test.media) == ({"video3": 1}, 2)


def test_msrvtt_as_it_comes_with_the_films(tmp_path):
    """Splits go by the clips' numbers."""
    names = ["video0", "video6512", "video6513", "video7009", "video7010", "video9999"]
    content = {
        "info": {},
        "images": [{"id": name} for name in names],
        "annotations": [
            {"image_id": name, "id": i, "caption": f" {name}  moves", "category": 9}
            for i, name in enumerate([*names, "video0"])
        ],
    }
    fill(tmp_path, {"MSRVTT/annotation/MSR_VTT.json": content}, [f"MSRVTT/videos/all/{name}.mp4" for name in names])
    for i, split in enumerate(("train", "val", "test")):
        found = read("msrvtt_captions", tmp_path, split)
        assert [row.id for row in found.rows] == names[2 * i : 2 * i + 2]
    assert read("msrvtt_captions", tmp_path, "train").rows[0].targets == ("video0 moves", "video0 moves")


def test_msrvtt_says_where_its_annotations_and_its_films_are():
    dataset = get_dataset("msrvtt_captions")
    assert "CLIP4Clip/releases/download/v0.0/msrvtt_data.zip" in dataset.home
    assert "frozen-in-time/data/MSRVTT.zip" in dataset.media_home


def test_msrvtt_caption_rows(tmp_path):
    rows = [
        {"video": "video0.mp4", "caption": "a man"},
        {"video": "video1.mp4", "caption": ["a dog ", ""]},
        {"video": "video0.mp4", "caption": "a boy"},
    ]
    fill(tmp_path, {"msrvtt_caption_train7k.json": rows}, ["video0.mp4", "video1.mp4"])
    found = read("msrvtt_captions", tmp_path, "train7k").rows
    assert [(row.id, row.targets) for row in found] == [("video0", ("a man", "a boy")), ("video1", ("a dog",))]


def test_video_questions(tmp_path):
    question = {"question": "what is a man doing?", "answer": "sing", "category_id": 14}
    fill(
        tmp_path,
        {
            "msrvtt/val_qa.json": [question | {"id": 158581, "video_id": 6513}],
            "msvd/val_qa.json": [question | {"id": 1, "video_id": 1301}, question | {"id": 2, "video_id": 1302}],
            "msvd/youtube_mapping.txt": "-4wsuPCjDBc_5_15 vid1301\r\nfoo_0_1 vid1302\r\n",
        },
        ["msrvtt/video6513.mp4", "msvd/YouTubeClips/-4wsuPCjDBc_5_15.avi", "msvd/YouTubeClips/vid1302.avi"],
    )
    (row,) = read("msrvtt_qa", tmp_path / "msrvtt", "val").rows
    assert (row.id, row.question, row.targets) == ("158581", "what is a man doing?", ("sing",))
    rows = read("msvd_qa", tmp_path / "msvd", "val").rows
    assert [row.media["video"].name for row in rows] == ["-4wsuPCjDBc_5_15.avi", "vid1302.avi"]


def test_video_question_rows(tmp_path):
    row = {"video": "00jrXRMlZOY_0_10.avi", "label": {"man": 1.0}, "question_id": 5, "question": "who runs?"}
    fill(tmp_path, {"msvd_vqa_test.json": [row, row | {"video": "gone.avi"}]}, ["all/00jrXRMlZOY_0_10.mp4"])
    found = read("msvd_qa", tmp_path, "test")
    assert [(row.id, row.targets, row.weights) for row in found.rows] == [("5", ("man",), None)]
    assert found.missing == {"gone.avi": 1}


def test_vatex_and_its_private_test(tmp_path):
    name = "-abc_-defgh_000122_000132"
    fill(
        tmp_path,
        {
            "vatex_validation_v1.0.json": [{"videoID": name, "enCap": ["One.", "Two."], "chCap": ["一"]}],
            "vatex_private_test_without_annotations.json": [{"videoID": name}],
        },
        [f"val/{name}.mp4"],
    )
    assert read("vatex", tmp_path, "val").rows[0].targets == ("One.", "Two.")
    assert read("vatex", tmp_path, "private_test").rows[0].targets == ()


def test_audiocaps_by_any_name(tmp_path):
    lines = [
        "audiocap_id,youtube_id,start_time,caption",
        '103549,-abc,30,"A man speaks, then laughs"',
        "103548,7fmOlUlwoNg,20,Rustling",
        "103547,-abc,30,A man talking",
        "103546,gone,0,Silence",
        "103545,zzz,160,Bells",
    ]
    media = ["test/-abc_30.wav", "test/Y7fmOlUlwoNg.flac", "test/zzz_160000_170000.mp4"]
    fill(tmp_path, {"test.csv": "\n".join(lines) + "\n"}, media)
    found = read("audiocaps", tmp_path, "test")
    assert [row.media["audio"].name for row in found.rows] == [name.split("/")[1] for name in media]
    assert found.rows[0].targets == ("A man speaks, then laughs", "A man talking")
    assert found.rows[0].id == "-abc_30"
    assert (found.missing, found.media) == ({"gone_0": 1}, 4)
    rows = [{"audio": "train/--L22BmDI6E.wav", "caption": "A dog barks"}]
    fill(tmp_path, {"audiocaps_caption_train.json": rows}, ["audios/train/--L22BmDI6E.wav"])
    assert read("audiocaps", tmp_path, "train").rows[0].targets == ("A dog barks",)


def test_clotho_and_names_that_come_twice(tmp_path):
    header = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"
    odd = "Distorted AM, 1;2.wav"
    fill(
        tmp_path,
        {
            "clotho_captions_development.csv": f'{header}"{odd}",a,b,c,d,"e, f"\nrain.wav,1,2,3,4,5\n',
            "clotho_captions_evaluation.csv": f"{header}rain.wav,1,2,3,4,5\n",
        },
        [f"development/{odd}", "development/rain.wav", "evaluation/rain.wav"],
    )
    train = read("clotho", tmp_path, "train").rows
    assert [row.targets for row in train] == [("a", "b", "c", "d", "e, f"), ("1", "2", "3", "4", "5")]
    assert train[1].media["audio"].parent.name == "development"
    assert read("clotho", tmp_path, "test").rows[0].media["audio"].parent.name == "evaluation"


def test_clothos_challenge_is_in_latin_1_and_parted_by_semicolons(tmp_path):
    lines = [
        "file_name;start_end_samples;manufacturer;license",
        "test_0001.wav;[3584, 1325506];ceejay;http://creativecommons.org/publicdomain/zero/1.0/",
        "test_0002.wav;[0, 882000];Björn, Ünal;http://creativecommons.org/licenses/by/3.0/",
    ]
    fill(tmp_path, media=["test/test_0001.wav", "test/test_0002.wav"])
    (tmp_path / "clotho_metadata_test.csv").write_bytes("\r\n".join([*lines, ""]).encode("latin-1"))
    rows = read("clotho", tmp_path, "challenge").rows
    assert [(row.id, row.targets) for row in rows] == [("test_0001.wav", ()), ("test_0002.wav", ())]
    dataset = get_dataset("clotho")
    assert "zenodo.org/records/3865658" in dataset.home
    assert "zenodo.org/records/3865658" in dataset.media_home


def test_clotho_aqa_has_three_answers_a_question(tmp_path):
    lines = ["file_name,QuestionText,answer,confidence"]
    lines += [f"rain.wav,Is it raining?,{answer},yes" for answer in ("yes", "yes", "no")]
    lines += [f'rain.wav,"What falls, if anything?",{answer},maybe' for answer in ("rain", "water", "rain")]
    fill(tmp_path, {"clotho_aqa_val.csv": "\ufeff" + "\r\n".join(lines) + "\r\n"}, ["audio_files/rain.wav"])
    rows = read("clotho_aqa", tmp_path, "val").rows
    assert [(row.question, row.targets) for row in rows] == [
        ("Is it raining?", ("yes", "yes", "no")),
        ("What falls, if anything?", ("rain", "water", "rain")),
    ]
    assert [row.groups["answer_type"] for row in rows] == ["yes/no", "single word"]


@pytest.mark.parametrize("sign", ["\u2028", "\x0b", "\x0c", "\x85", "\x1c"])
def test_a_caption_may_hold_any_sign(tmp_path, sign):
    lines = ["audiocap_id,youtube_id,start_time,caption", f"1,abc,30,Rain{sign}falls", '2,def,0,"Bells\nring"']
    fill(tmp_path, {"val.csv": "\n".join(lines) + "\n"}, ["abc_30.wav", "def_0.wav"])
    assert [row.targets for row in read("audiocaps", tmp_path, "val").rows] == [("Rain falls",), ("Bells ring",)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['1,abc,30,"two\nlines"', "2,def,0"], r"val\.csv, line 4: has 3 fields, the header 4; look for a quote or a"),
        (['1,abc,30,"Rain', "2,def,0,Bells", ""], r"val\.csv, line 2: has a quote that is not closed; close it"),
        (["1,abc,30,Rain", '2,def,0,"Bells'], r"val\.csv, line 3: has a quote that is not closed"),
        (["1,abc,30,Rain", '2,def,0,"Bells', ""], r"val\.csv, line 3: has a quote that is not closed"),
        (['1,"abc', 'abc",30,"Rain', "2,def,0,Bells"], r"val\.csv, line 3: has a quote that is not closed"),
        (['1,abc,30,"Rain', '2,def,0,"Bells"', "3,ghi,0,Wind"], r"val\.csv, line 2: has a quote that is not closed"),
        (["1,abc,30,Rain, then wind"], r"val\.csv, line 2: has 5 fields, the header 4"),
        (["1,abc,30,Rain", f'2,def,0,"{"x" * 140000}'], r"val\.csv, line 3: has a quote that is not closed"),
    ],
)
def test_a_wrong_row_of_a_table_is_named(tmp_path, rows, message):
    fill(tmp_path, {"val.csv": "\n".join(["audiocap_id,youtube_id,start_time,caption", *rows])}, ["abc_30.wav"])
    with pytest.raises(DataError, match=message):
        read("audiocaps", tmp_path, "val")
